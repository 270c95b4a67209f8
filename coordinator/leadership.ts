/**
 * Which of several coordinators works: the one that holds the lease. The others stand by.
 *
 * 1. A reign begins only while the lease is held, and one whose lease is over is stopped before anything else is done.
 * 2. There is at most one reign at a time, and none after `stop` has resolved.
 * 3. The lease is given up only when the reign has ended.
 *
 * No promise of the farm hangs on this: every write is fenced by the stream of the records. Two reigns at once would only
 * disturb each other.
 */
import { untilFired } from "#actor/until-fired.ts";
import type { Clock } from "#actor/clock.ts";
import type { Lease } from "#actor/lease.ts";
import type { Log } from "#actor/log.ts";
import { once, type Service } from "#actor/service.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { HeldLease, type Lead } from "#coordinator/held-lease.ts";

/** With the lease's 5 s and a start of less than a second, a standby works within 6 s. More often only asks the server more. */
const standByEveryMs = 500;

/** The work of the one that leads. `stop` is as in `actor/service.ts`, and settles `finished`. */
export interface Reign {
  start(): Promise<void>;
  /** `deposed` when somebody else has written the records. */
  finished(): Promise<"deposed" | "stopped">;
  stop(): Promise<void>;
}

export class Leadership implements Service {
  readonly #lease: Lease;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #makeReign: (lead: Lead) => Reign;
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(lease: Lease, clock: Clock, log: Log, makeReign: (lead: Lead) => Reign) {
    this.#lease = lease;
    this.#clock = clock;
    this.#log = log;
    this.#makeReign = makeReign;
  }

  readonly start = once(async (): Promise<void> => {
    this.#running = this.#run();
    // Whoever waits for `finished` hears of it.
    this.#running.catch(() => undefined);
  });

  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    await Promise.allSettled([this.#running]);
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Settles after `stop`, or with the error that must end the process. */
  async finished(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      while (!signal.aborted) {
        const askedAt = await this.#standBy();
        if (askedAt === undefined) return;
        await this.#lead(new HeldLease(this.#lease, this.#clock, this.#log, askedAt));
        await this.#clock.pause(standByEveryMs, signal);
      }
    } finally {
      await this.#release();
    }
  }

  /** Tries to take the lease. @returns when it was asked for, by the monotonic clock; undefined after `stop` */
  async #standBy(): Promise<number | undefined> {
    const { signal } = this.#stopping;
    let told = "";
    while (!signal.aborted) {
      let news: string;
      try {
        const askedAt = this.#clock.monotonic();
        if (await this.#lease.take()) return signal.aborted ? undefined : askedAt;
        const holder = await this.#lease.holder();
        news = holder === undefined ? told : `standing by; ${holder.host}/${holder.pid} leads`;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        news = `standing by; ${error.message}`;
      }
      if (news !== told) this.#log.info(news);
      told = news;
      await this.#clock.pause(standByEveryMs, signal);
    }
    return undefined;
  }

  async #lead(held: HeldLease): Promise<void> {
    // The process may have been paused between the question and its answer.
    if (!held.isLeading()) return;
    const reign = this.#makeReign(held);
    const ruling = this.#rule(reign);
    const keeping = held.keep();
    const isOver = untilFired(AbortSignal.any([held.over, this.#stopping.signal]));
    await Promise.race([Promise.allSettled([ruling]), Promise.allSettled([keeping]), isOver]);
    await reign.stop();
    held.end();
    await keeping;
    await ruling;
  }

  async #rule(reign: Reign): Promise<void> {
    try {
      await reign.start();
      if ((await reign.finished()) === "deposed") this.#log.warn("deposed: somebody else writes the records");
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.#log.warn({ err: error }, "the reign has ended");
    }
  }

  async #release(): Promise<void> {
    try {
      await this.#lease.release();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.#log.warn({ err: error }, "the lease could not be given up: it expires");
    }
  }
}
