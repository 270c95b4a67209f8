/**
 * The coordinator: one event loop over the pure core.
 *
 * 1. Nothing is answered, dispatched or stopped before the records that say so are committed.
 * 2. After a commit that did not succeed for certain, the farm is rebuilt from the records before anything else happens.
 * 3. Everything that waits in the mailbox goes through one transition and one commit.
 * 4. A chain starts once: a request that is repeated because its answer was lost finds it live or among the ended ones.
 */
import type { Clock } from "#actor/clock.ts";
import type { Log } from "#actor/log.ts";
import { Mailbox } from "#actor/mailbox.ts";
import { once, type Service } from "#actor/service.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { Progress } from "#protocol/messages.ts";
import { ChainStore, removedMs } from "#bus/chain-store.ts";
import { type Connection, onReconnect } from "#bus/connection.ts";
import { listenProgress } from "#bus/job-log.ts";
import { declareTopology } from "#bus/topology.ts";
import { serveAdmin } from "#coordinator/admin-api.ts";
import { AgentWatch } from "#coordinator/agent-watch.ts";
import { Answers } from "#coordinator/answers.ts";
import { impliedEffects } from "#coordinator/core/effects.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import { serveAgents } from "#coordinator/intake.ts";
import { Interpreter } from "#coordinator/interpreter.ts";

/** More would only lengthen the wait of the first in the group; one batch of 500 records takes 10 ms. */
const groupMax = 500;
/** About 60 MB of reports at worst; whoever is refused asks again. */
const mailboxCapacity = 50_000;
/** Pulse of leases, back-offs and presence. */
const beatMs = 500;

export class Coordinator implements Service {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #store: ChainStore;
  readonly #answers = new Answers();
  readonly #mailbox = new Mailbox<FarmEvent>(mailboxCapacity);
  readonly #interpreter: Interpreter;
  readonly #watch: AgentWatch;
  readonly #stopping = new AbortController();
  readonly #services: { stop(): void }[] = [];
  readonly #loops: Promise<void>[] = [];
  readonly #progress = new Map<string, Progress>();
  /** Chains that have left the live records, and when; as long as the bucket remembers them. Invariant 4. */
  readonly #ended = new Map<ChainId, number>();
  #farm: Farm = emptyFarm;
  #lastSequence = 0;
  /** Set when the server was away: its memory streams, and so the lanes, may be empty. */
  #mustRebuild = false;

  constructor(connection: Connection, clock: Clock, log: Log) {
    this.#connection = connection;
    this.#clock = clock;
    this.#log = log;
    this.#store = new ChainStore(connection);
    const post = (event: FarmEvent) => this.#mailbox.post(event);
    this.#interpreter = new Interpreter(connection, this.#answers, log, (chain) => this.#archived(chain));
    this.#watch = new AgentWatch(connection, clock, log, post);
  }

  /** Resolves when requests are answered. @throws UsageError when the server is too old or has no JetStream. */
  readonly start = once(async (): Promise<void> => {
    await this.#rebuild();
    if (this.#stopping.signal.aborted) return;
    onReconnect(this.#connection, () => {
      this.#mustRebuild = true;
      this.#mailbox.post({ kind: "time-passed" });
    });
    const post = (event: FarmEvent) => this.#mailbox.post(event);
    this.#services.push(
      serveAgents(this.#connection, this.#answers, this.#log, post),
      serveAdmin(this.#connection, {
        answers: this.#answers,
        interpreter: this.#interpreter,
        startedAt: this.#clock.now(),
        farm: () => this.#farm,
        now: () => this.#clock.now(),
        post,
        progressOf: (reference) => this.#progress.get(reference),
        isKnown: (chain) => this.#farm.chains.has(chain) || this.#ended.has(chain),
      }),
      listenProgress(this.#connection, (chain, job, progress) => {
        if (this.#farm.chains.has(chain as ChainId)) this.#progress.set(`${chain}.${job}`, progress);
      }),
    );
    await this.#connection.flush();
    this.#loops.push(this.#loop(), this.#beat(), this.#watch.run(this.#stopping.signal));
  });

  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    for (const service of this.#services) service.stop();
    await Promise.allSettled(this.#loops);
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Settles when the event loop ends: after `stop`, or with the error that must end the process. */
  async finished(): Promise<void> {
    await Promise.all(this.#loops);
  }

  async #loop(): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      const events = await this.#mailbox.take(groupMax, signal);
      if (signal.aborted) return;
      if (this.#mustRebuild) await this.#rebuild();
      await this.#handle(events);
    }
  }

  async #handle(events: readonly FarmEvent[]): Promise<void> {
    const { farm, effects, changed, isAtomic } = transitionAll(this.#farm, events, this.#clock.now());
    if (changed.size > 0) {
      try {
        const result = await this.#store.commit(changed, this.#lastSequence, isAtomic);
        if (!result.ok) {
          this.#log.error({ detail: result.detail }, "the records were written by somebody else: resynchronising");
          return await this.#rebuild();
        }
        this.#lastSequence = result.lastSequence;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        this.#log.warn({ err: error }, "a commit was not answered: resynchronising");
        return await this.#rebuild();
      }
    }
    this.#farm = farm;
    this.#interpreter.run(farm, effects);
  }

  /** Invariant 2. Answers of the lost group are never given; everything that is asked may be asked again. */
  async #rebuild(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        this.#mustRebuild = false;
        await declareTopology(this.#connection);
        const { chains, lastSequence, removed, damaged } = await this.#store.load();
        for (const { key, error } of damaged)
          this.#log.error({ key, err: error }, "a chain's record cannot be decoded");
        for (const id of removed) this.#ended.set(id, this.#clock.monotonic());
        this.#answers.forgetAll();
        this.#watch.repeatAll();
        this.#farm = { agents: this.#farm.agents, chains: new Map(chains.map((chain) => [chain.id, chain])) };
        this.#lastSequence = lastSequence;
        this.#log.info({ live: chains.length, lastSequence }, "the farm is rebuilt from its records");
        return this.#interpreter.run(this.#farm, impliedEffects(this.#farm));
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        this.#log.warn({ err: error }, "the records cannot be read yet");
        await this.#clock.pause(200, signal);
      }
    }
  }

  async #beat(): Promise<void> {
    while (await this.#clock.pause(beatMs, this.#stopping.signal)) {
      this.#watch.check();
      this.#interpreter.archive();
      this.#forgetEnded();
      this.#mailbox.post({ kind: "time-passed" });
      if (this.#interpreter.takeFailure()) this.#interpreter.run(this.#farm, impliedEffects(this.#farm));
    }
  }

  #forgetEnded(): void {
    const before = this.#clock.monotonic() - removedMs;
    for (const [chain, endedAt] of this.#ended) {
      // In the order of their ends.
      if (endedAt > before) return;
      this.#ended.delete(chain);
    }
  }

  #archived(chain: ChainId): void {
    this.#ended.set(chain, this.#clock.monotonic());
    this.#progress.delete(`${chain}.compile`);
    this.#progress.delete(`${chain}.upload`);
    this.#mailbox.post({ kind: "chain-archived", chain });
  }
}
