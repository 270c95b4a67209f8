/**
 * How an agent works its lane.
 *
 * 1. Nothing runs before the coordinator has answered the claim with `go`, and no first byte is sent before it has answered
 *    the flash claim with `go` and the answer is younger than 60 % of the lease.
 * 2. A delivery of an attempt that is already in hand changes nothing.
 * 3. A result is on disk before it is reported, and stays there until the coordinator has noted it.
 * 4. `holding` is the whole truth: an attempt is in it from its delivery until its result is noted.
 * 5. A stop order ends an attempt unless its flash claim was granted; then the flash ends by itself, unless the order is forced.
 * 6. Whoever has not reached NATS for 60 % of the lease ends its own work, except a flash that has been claimed.
 * 7. A worker that stops says so by its slots and goes on with its statements until its last flash has ended: a flasher that
 *    falls silent is taken for lost, and its device is asked and given to others while it still writes.
 * 8. Work that has released its slot is held, stopped and reported like any other; only its slot is free. No more than `slots` have
 *    done so at a time: what would release beyond that keeps its slot, and waits, until one of them has ended.
 */
import type { Clock } from "#actor/clock.ts";
import type { Log } from "#actor/log.ts";
import type { ResultSpool } from "#actor/result-spool.ts";
import { once, type Service } from "#actor/service.ts";
import type { Announcement } from "#protocol/agent.ts";
import { messageOf, UnavailableError } from "#protocol/errors.ts";
import type { BootId, ChainId, JobName } from "#protocol/ids.ts";
import { leaseGiveUpMs, presenceBeatMs } from "#protocol/limits.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Ask, AskAnswer, Dispatch, StopOrder } from "#protocol/messages.ts";

export interface Delivery {
  readonly dispatch: Dispatch;
  /** The lane may forget the message: its claim has been answered. */
  done(): void;
}

/** Where jobs and stop orders come from. */
export interface LaneSource {
  /** Deliveries until the signal fires; survives outages by itself. */
  pull(signal: AbortSignal): AsyncIterable<Delivery>;
  onStop(handle: (order: StopOrder) => void): { stop(): void };
}

/** The way to the coordinator and to the server in front of it. */
export interface Link {
  /** @throws UnavailableError when nobody answered */
  ask(ask: Ask): Promise<AskAnswer>;
  announce(announcement: Announcement): void;
  /** Resolves when the server has answered. @throws when it has not */
  ping(): Promise<unknown>;
}

/** What a handler may use while it works on one attempt. */
export interface Attempt {
  /** Fires for a stop order, a shutdown, or a lost link; the handler answers with `stopped` once everything is dead. */
  readonly signal: AbortSignal;
  /** Asks for the one flash of this job. Only after `go` may a byte be sent. */
  claimFlash(): Promise<"go" | "drop" | "cut-off">;
  /** Whether the flash claim is still fresh enough to send the first byte. */
  mayStart(): boolean;
  /**
   * Gives the slot back before the result is there: what is left to do needs no processor. Resolves when the slot is free, or when
   * the signal fires.
   */
  release(): Promise<void>;
}

export type JobHandler = (dispatch: Dispatch, attempt: Attempt) => Promise<JobResult>;

export interface LaneWorkerOptions {
  /** Everything of an announcement that does not change with the work in hand. */
  readonly identity: Omit<Announcement, "v" | "idleSince" | "holding">;
  readonly source: LaneSource;
  readonly link: Link;
  readonly handler: JobHandler;
  readonly spool: ResultSpool;
  readonly clock: Clock;
  readonly log: Log;
}

interface InHand {
  readonly chain: ChainId;
  readonly job: JobName;
  readonly attempt: number;
  readonly abort: AbortController;
  isFlashClaimed: boolean;
  /** Settled once its slot is free, or once it has been told to end. */
  readonly release: PromiseWithResolvers<void>;
}

/** Pause between two tries of a request that nobody answered. */
const askAgainMs = 200;

export class LaneWorker implements Service {
  readonly #options: LaneWorkerOptions;
  readonly #boot: BootId;
  readonly #stopping = new AbortController();
  /** Fires when a worker that stops has nothing in hand any more. */
  readonly #idle = new AbortController();
  readonly #inHand = new Map<string, InHand>();
  /** What has released its slot, or would; in that order. */
  readonly #released = new Set<InHand>();
  readonly #running = new Set<Promise<void>>();
  readonly #loops: Promise<void>[] = [];
  #idleSince: number | null;
  #lastContactAt: number;
  #capabilities: Pick<Announcement, "compile" | "upload"> = {};

  constructor(options: LaneWorkerOptions) {
    this.#options = options;
    this.#boot = options.identity.boot;
    this.#idleSince = options.clock.now();
    this.#lastContactAt = options.clock.monotonic();
  }

  readonly start = once(async (): Promise<void> => {
    // Before the first statement: a result of the former boot must not be taken for lost work.
    for (const entry of await this.#options.spool.all()) await this.#report(entry);
    if (this.#stopping.signal.aborted) return;
    const orders = this.#options.source.onStop((order) => this.#stop(order));
    this.#stopping.signal.addEventListener("abort", () => orders.stop(), { once: true });
    this.#announce();
    this.#loops.push(this.#beat(), this.#pull());
  });

  /** Takes no more work, stops what may be stopped, waits for flashes, and leaves unreported results on disk. */
  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    for (const held of this.#inHand.values()) if (!held.isFlashClaimed) held.abort.abort();
    if (this.#inHand.size > 0) this.#announce();
    await Promise.allSettled(this.#running);
    this.#idle.abort();
    await Promise.allSettled([...this.#running, ...this.#loops]);
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** New capabilities, e.g. an environment that has been made, or a port that was plugged in; announced at once. */
  setCapabilities(capabilities: Pick<Announcement, "compile" | "upload">): void {
    this.#capabilities = capabilities;
    this.#announce();
  }

  #announce(): void {
    const { identity, clock, link } = this.#options;
    const slots = this.#stopping.signal.aborted ? 0 : identity.slots;
    const storing = this.#storing();
    const holding = [...this.#inHand.values()].map((held) => {
      const { chain, job, attempt } = held;
      return storing.has(held) ? { chain, job, attempt, isStoring: true } : { chain, job, attempt };
    });
    const isIdle = holding.length - storing.size < slots;
    this.#idleSince = isIdle ? (this.#idleSince ?? clock.now()) : null;
    link.announce({ v: 1, ...identity, ...this.#capabilities, slots, idleSince: this.#idleSince, holding });
  }

  async #beat(): Promise<void> {
    const { clock, link, log } = this.#options;
    while (await clock.pause(presenceBeatMs, this.#idle.signal)) {
      this.#announce();
      try {
        await link.ping();
        this.#lastContactAt = clock.monotonic();
      } catch {
        if (clock.monotonic() - this.#lastContactAt < leaseGiveUpMs) continue;
        for (const held of this.#inHand.values()) {
          if (held.isFlashClaimed || held.abort.signal.aborted) continue;
          log.warn({ chain: held.chain, job: held.job }, "no contact for too long: ending the work in hand");
          held.abort.abort();
        }
      }
    }
  }

  async #pull(): Promise<void> {
    for await (const delivery of this.#options.source.pull(this.#stopping.signal)) {
      const { chain, job, attempt } = delivery.dispatch;
      const key = `${chain}.${job}.${attempt}`;
      if (this.#inHand.has(key)) {
        delivery.done();
        continue;
      }
      const [abort, release] = [new AbortController(), Promise.withResolvers<void>()];
      abort.signal.addEventListener("abort", () => release.resolve(), { once: true });
      const held: InHand = { chain, job, attempt, abort, release, isFlashClaimed: false };
      this.#inHand.set(key, held);
      // The claim leaves first: the job waits for its answer, and for the statement nobody waits.
      const work = this.#work(delivery, held)
        // A full disk, or an answer that cannot be decoded: the other work in hand, perhaps a flash, must not die of it. The
        // statements without this attempt tell the coordinator that it is lost.
        .catch((error: unknown) => this.#options.log.error({ chain, job, attempt, err: error }, "an attempt is lost"))
        .finally(() => {
          this.#inHand.delete(key);
          this.#released.delete(held);
          this.#running.delete(work);
          this.#freeSlots();
          if (!this.#stopping.signal.aborted) this.#announce();
        });
      this.#running.add(work);
      this.#announce();
    }
  }

  /** Invariant 8: the first of those who released. */
  #storing(): ReadonlySet<InHand> {
    return new Set([...this.#released].slice(0, this.#options.identity.slots));
  }

  #freeSlots(): void {
    for (const { release } of this.#storing()) release.resolve();
  }

  #stop(order: StopOrder): void {
    const held = this.#inHand.get(`${order.chain}.${order.job}.${order.attempt}`);
    if (held !== undefined && (!held.isFlashClaimed || order.isForced === true)) held.abort.abort();
  }

  async #work(delivery: Delivery, held: InHand): Promise<void> {
    const { handler, spool, log } = this.#options;
    const { chain, job, attempt } = held;
    const verdict = await this.#askWithin(this.#askOf(held, "claim"), leaseGiveUpMs);
    delivery.done();
    if (verdict?.verdict !== "go") {
      log.info({ chain, job, attempt, reason: verdict?.reason ?? "no answer" }, "claim dropped");
      return;
    }
    let result: JobResult;
    try {
      result = await handler(delivery.dispatch, this.#attemptOf(held));
    } catch (error) {
      log.error({ chain, job, attempt, err: error }, "the handler threw");
      result = { kind: "failed", failure: { kind: "internal", detail: messageOf(error) } };
    }
    const entry = { chain, job, attempt, result };
    await spool.write(entry);
    await this.#report(entry);
  }

  #attemptOf(held: InHand): Attempt {
    const { clock } = this.#options;
    let grantedAt: number | undefined;
    return {
      signal: held.abort.signal,
      claimFlash: async () => {
        // Counted from the question: the answer may have waited in a paused process.
        const askedAt = clock.monotonic();
        const answer = await this.#askWithin(this.#askOf(held, "flash-claim"), leaseGiveUpMs, held.abort.signal);
        if (answer === undefined) return "cut-off";
        if (answer.verdict !== "go") return "drop";
        held.isFlashClaimed = true;
        grantedAt = askedAt;
        return "go";
      },
      mayStart: () => grantedAt !== undefined && clock.monotonic() - grantedAt < leaseGiveUpMs,
      release: () => {
        this.#released.add(held);
        this.#freeSlots();
        this.#announce();
        return held.release.promise;
      },
    };
  }

  #askOf({ chain, job, attempt }: InHand, kind: "claim" | "flash-claim"): Ask {
    return { v: 1, kind, boot: this.#boot, chain, job, attempt };
  }

  /** Asks until answered; undefined when that took too long, or the signal or a shutdown came first. */
  async #askWithin(ask: Ask, withinMs: number, signal?: AbortSignal): Promise<AskAnswer | undefined> {
    const { clock, link, log } = this.#options;
    const until = clock.monotonic() + withinMs;
    const isOver = () => this.#stopping.signal.aborted || signal?.aborted === true || clock.monotonic() >= until;
    while (!isOver()) {
      try {
        const answer = await link.ask(ask);
        return clock.monotonic() < until ? answer : undefined;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        log.debug({ err: error }, "the coordinator is away");
        await clock.pause(askAgainMs, this.#stopping.signal);
      }
    }
    return undefined;
  }

  async #report(entry: { chain: ChainId; job: JobName; attempt: number; result: JobResult }): Promise<void> {
    const { clock, spool, log } = this.#options;
    const ask: Ask = { v: 1, kind: "report", boot: this.#boot, ...entry };
    for (;;) {
      try {
        await this.#options.link.ask(ask);
        await spool.remove(entry);
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        log.debug({ err: error }, "the report waits for the coordinator");
        if (!(await clock.pause(askAgainMs, this.#stopping.signal))) return;
      }
    }
  }
}
