/**
 * The lease of one reign, kept alive.
 *
 * 1. It is held for `leadTtlMs` from the moment at which the newest answered renewal was asked for, by the monotonic clock.
 * 2. Once it is over it stays over.
 */
import type { Clock } from "#actor/clock.ts";
import type { Lease } from "#actor/lease.ts";
import type { Log } from "#actor/log.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { leadTtlMs } from "#protocol/limits.ts";

/** Five tries before the lease is over. */
const renewEveryMs = 1_000;
/** Between the tries of somebody who waits. */
const confirmAgainMs = 200;

/** What a reign may ask. */
export interface Lead {
  /** Whether the lease is held now, by the clock. */
  isLeading(): boolean;
  /** Renews now, through an outage of the server; false when the lease is over. */
  confirm(): Promise<boolean>;
}

export class HeldLease implements Lead {
  readonly #lease: Lease;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #over = new AbortController();
  #untilMs: number;
  #renewing: Promise<unknown> = Promise.resolve();

  /** @param askedAt when it was asked for, by the monotonic clock */
  constructor(lease: Lease, clock: Clock, log: Log, askedAt: number) {
    this.#lease = lease;
    this.#clock = clock;
    this.#log = log;
    this.#untilMs = askedAt + leadTtlMs;
  }

  /** Fires when the lease is lost, or after `end`. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  isLeading(): boolean {
    return !this.over.aborted && this.#clock.monotonic() < this.#untilMs;
  }

  async confirm(): Promise<boolean> {
    while (this.isLeading()) {
      if (await this.#renew()) return this.isLeading();
      await this.#clock.pause(confirmAgainMs, this.over);
    }
    return false;
  }

  /** Renews until the lease is over; no renewal is under way when it resolves. */
  async keep(): Promise<void> {
    await Promise.all([this.#renewEachSecond(), this.#watchClock()]);
  }

  /** No more renewals. */
  end(): void {
    this.#over.abort();
  }

  async #renewEachSecond(): Promise<void> {
    while (await this.#clock.pause(renewEveryMs, this.over)) await this.#renew();
    await this.#renewing;
  }

  /** The lease ends by the clock, whatever a renewal still waits for. */
  async #watchClock(): Promise<void> {
    for (;;) {
      const leftMs = this.#untilMs - this.#clock.monotonic();
      if (leftMs <= 0) return this.#lose("no renewal was answered in time");
      if (!(await this.#clock.pause(leftMs, this.over))) return;
    }
  }

  /** One after the other; each is asked for after it was called for. */
  #renew(): Promise<boolean> {
    const renewal = this.#renewing.then(() => this.#renewNow());
    this.#renewing = renewal;
    return renewal;
  }

  async #renewNow(): Promise<boolean> {
    if (!this.isLeading()) return false;
    const askedAt = this.#clock.monotonic();
    try {
      if (await this.#lease.renew()) {
        this.#untilMs = askedAt + leadTtlMs;
        return true;
      }
      this.#lose("somebody else has taken it, or the server has lost it");
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.#log.warn({ err: error }, "the lease could not be renewed");
    }
    return false;
  }

  #lose(reason: string): void {
    if (!this.over.aborted) this.#log.warn({ reason }, "the lease is lost");
    this.end();
  }
}
