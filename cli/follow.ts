/**
 * Follows chains to their end, through restarts of the server and of the coordinator.
 *
 * 1. The watch of the records is there before the chains are asked for, so no step is missed while nothing fails.
 * 2. When no record came for two seconds the coordinator is asked; its answer does not count for a chain of which a record came
 *    after the question.
 * 3. No event comes before `untilEnded`: what happens while the request is being answered waits for its answer.
 * 4. Nothing that leaves here holds a secret.
 */
import type { Clock } from "#actor/clock.ts";
import { type Chain, isFinished, jobOf, jobsOf, withoutSecrets } from "#protocol/chain.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { isTerminal, type Job, JobName } from "#protocol/job.ts";
import type { Progress } from "#protocol/messages.ts";
import { onReconnect } from "#bus/connection.ts";
import { watchChains } from "#bus/farm-client.ts";
import { listenProgress } from "#bus/job-log.ts";
import type { Farm } from "#cli/farm.ts";
import type { Followed } from "#cli/tree.ts";

export interface FollowEvents {
  /** A job is in another state, or another attempt of it is. */
  changed?(chain: Chain, job: Job): void;
  progressed?(chain: Chain, job: Job, progress: Progress): void;
  /** No coordinator has answered for a while, or one answers again. */
  away?(isAway: boolean): void;
}

export interface FollowOptions {
  readonly farm: Farm;
  readonly clock: Clock;
  readonly chains: readonly ChainId[];
  /** Whether enough of a chain has ended; default: all of it. */
  readonly isDone?: (chain: Chain) => boolean;
  readonly events?: FollowEvents;
}

/** `away`: no coordinator has answered for ten minutes. */
export type FollowEnd = "ended" | "interrupted" | "away";

const silentMs = 2_000;
const lookEveryMs = 250;
/** Longer than a restart, so that only an outage is spoken of. */
const awayAfterMs = 5_000;
const awayMsMax = 10 * 60_000;
/** A chain is moved to the history before it leaves the live records, so one miss is odd already. */
const missesMax = 3;
const watchReadyMsMax = 3_000;

interface Entry {
  chain?: Chain;
  progress: Partial<Record<JobName, Progress>>;
  /** Records that came by the watch. */
  heard: number;
  misses: number;
}

export class ChainFollower implements AsyncDisposable {
  readonly #options: FollowOptions;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #stopping = new AbortController();
  readonly #done = Promise.withResolvers<void>();
  readonly #watchIsUp = Promise.withResolvers<void>();
  readonly #loops: Promise<void>[] = [];
  #restart: AbortController | undefined;
  #heardAt: number;
  #answeredAt: number;
  #isAway = false;
  /** Events that wait; undefined once they are let out. */
  #heldBack: (() => void)[] | undefined = [];

  constructor(options: FollowOptions) {
    this.#options = options;
    this.#entries = new Map(options.chains.map((id) => [id, { progress: {}, heard: 0, misses: 0 }]));
    this.#heardAt = this.#answeredAt = options.clock.monotonic();
  }

  /** Resolves when the watch is up; after three seconds without one, asking has to do. */
  async start(): Promise<void> {
    const { farm, clock } = this.#options;
    onReconnect(farm.connection, () => this.#restart?.abort());
    const listener = listenProgress(farm.connection, (chain, job, progress) => this.#progressed(chain, job, progress));
    this.#stopping.signal.addEventListener("abort", () => listener.stop(), { once: true });
    this.#loops.push(this.#watch());
    await Promise.race([this.#watchIsUp.promise, clock.pause(watchReadyMsMax, this.#stopping.signal)]);
  }

  /** Called when the chains have been accepted, or are known to be there. @throws UsageError, WireError of an answer */
  async untilEnded(interrupted: AbortSignal): Promise<FollowEnd> {
    const interruption = Promise.withResolvers<FollowEnd>();
    const interrupt = () => interruption.resolve("interrupted");
    interrupted.addEventListener("abort", interrupt, { once: true });
    if (interrupted.aborted) interrupt();
    for (const event of this.#heldBack ?? []) event();
    this.#heldBack = undefined;
    this.#heardAt = Number.NEGATIVE_INFINITY;
    this.#answeredAt = this.#options.clock.monotonic();
    const ended = this.#done.promise.then((): FollowEnd => "ended");
    return await Promise.race([ended, interruption.promise, this.#catchUp()]);
  }

  /** What is known of the chains, in the order in which they were named. */
  followed(): readonly Followed[] {
    return [...this.#entries.values()].flatMap(({ chain, progress }) =>
      chain === undefined ? [] : [{ chain, progress }],
    );
  }

  /** Chains that the farm does not know any more. */
  lost(): readonly string[] {
    return [...this.#entries].filter(([, { misses }]) => misses >= missesMax).map(([id]) => id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    this.#restart?.abort();
    await Promise.allSettled(this.#loops);
  }

  async #watch(): Promise<void> {
    const { farm, clock, chains } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#restart = new AbortController();
      try {
        const until = AbortSignal.any([signal, this.#restart.signal]);
        const heard = (chain: Chain) => this.#take(chain, true);
        await watchChains(farm.connection, chains, until, heard, () => this.#watchIsUp.resolve());
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
      }
      await clock.pause(200, signal);
    }
  }

  /** Invariant 2. */
  async #catchUp(): Promise<FollowEnd> {
    const { clock } = this.#options;
    const { signal } = this.#stopping;
    do {
      const now = clock.monotonic();
      if (now - this.#heardAt < silentMs) continue;
      const isAnswered = await this.#look();
      const silence = clock.monotonic() - this.#answeredAt;
      if (isAnswered) this.#setAway(false);
      else if (silence >= awayMsMax) return "away";
      else if (silence >= awayAfterMs) this.#setAway(true);
    } while (await clock.pause(lookEveryMs, signal));
    return "interrupted";
  }

  /** Asks for the chains that have not ended. @returns whether there was an answer */
  async #look(): Promise<boolean> {
    const { farm, clock } = this.#options;
    const only = this.#options.chains.filter((id) => !this.#isOver(this.#entries.get(id)));
    if (only.length === 0) {
      this.#done.resolve();
      return true;
    }
    const heardBefore = new Map(only.map((id) => [id, this.#entries.get(id)?.heard]));
    try {
      const { live, ended, isCut } = await farm.askOnce({ v: 1, kind: "chains", ended: 0, only }, "chains");
      const found = [...live.map(({ chain }) => chain), ...ended];
      for (const chain of found)
        if (this.#entries.get(chain.id)?.heard === heardBefore.get(chain.id)) this.#take(chain, false);
      for (const id of only) this.#missed(id, isCut !== true && found.every((chain) => chain.id !== id));
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      return false;
    }
    this.#heardAt = this.#answeredAt = clock.monotonic();
    return true;
  }

  #missed(id: ChainId, isMissing: boolean): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.misses = isMissing ? entry.misses + 1 : 0;
    this.#check();
  }

  /** Invariant 3. */
  #emit(event: () => void): void {
    if (this.#heldBack === undefined) event();
    else this.#heldBack.push(event);
  }

  #setAway(isAway: boolean): void {
    if (isAway === this.#isAway) return;
    this.#isAway = isAway;
    this.#options.events?.away?.(isAway);
  }

  #take(record: Chain, isWatched: boolean): void {
    const entry = this.#entries.get(record.id);
    if (entry === undefined || this.#stopping.signal.aborted) return;
    if (isWatched) {
      entry.heard += 1;
      this.#heardAt = this.#answeredAt = this.#options.clock.monotonic();
    }
    // Invariant 4.
    const chain = withoutSecrets(record);
    const before = entry.chain;
    entry.chain = chain;
    for (const job of jobsOf(chain)) {
      const old = before === undefined ? undefined : jobOf(before, job.name);
      if (old?.state === job.state && old.attempt === job.attempt) continue;
      if (job.state !== "running") delete entry.progress[job.name];
      this.#emit(() => this.#options.events?.changed?.(chain, job));
    }
    this.#check();
  }

  #isOver(entry: Entry | undefined): boolean {
    if (entry === undefined || entry.misses >= missesMax) return true;
    return entry.chain !== undefined && (this.#options.isDone ?? isFinished)(entry.chain);
  }

  #check(): void {
    if ([...this.#entries.values()].every((entry) => this.#isOver(entry))) this.#done.resolve();
  }

  #progressed(id: string, name: string, progress: Progress): void {
    const entry = this.#entries.get(id);
    const job = JobName.safeParse(name);
    if (entry?.chain === undefined || !job.success) return;
    const current = jobOf(entry.chain, job.data);
    if (current === undefined || isTerminal(current.state)) return;
    entry.progress[job.data] = progress;
    // It may overtake the record that says who runs it.
    if (current.state === "queued" || current.state === "dispatched") return;
    const { chain } = entry;
    this.#emit(() => this.#options.events?.progressed?.(chain, current, progress));
  }
}
