/**
 * A clock that goes on only when a test says so, in two steps: first time has passed, then the pauses that are over end.
 * In between the test can let agents speak, as they do all the time while hours pass.
 */
import { type Clock, systemClock } from "#actor/clock.ts";
import { startAt } from "#test/support/farm-builders.ts";

/** Shorter pauses are those of somebody who tries again what the real server has not done yet; they are real. */
const steppedMsMin = 500;
const retryFactor = 0.1;

interface Pausing {
  readonly until: number;
  readonly end: (isOver: boolean) => void;
}

export class SteppedClock implements Clock {
  #elapsedMs = 0;
  readonly #pausing = new Set<Pausing>();

  now(): number {
    return startAt + this.#elapsedMs;
  }

  monotonic(): number {
    return this.#elapsedMs;
  }

  pause(ms: number, signal?: AbortSignal): Promise<boolean> {
    if (ms < steppedMsMin) return systemClock.pause(ms * retryFactor, signal);
    return new Promise((resolve) => {
      const abort = () => pausing.end(false);
      const pausing: Pausing = {
        until: this.#elapsedMs + ms,
        end: (isOver) => {
          this.#pausing.delete(pausing);
          signal?.removeEventListener("abort", abort);
          resolve(isOver);
        },
      };
      if (signal?.aborted === true) return resolve(false);
      signal?.addEventListener("abort", abort, { once: true });
      this.#pausing.add(pausing);
    });
  }

  pass(ms: number): void {
    this.#elapsedMs += ms;
  }

  /** Ends the pauses whose time has passed. */
  endPauses(): void {
    for (const pausing of this.#pausing) if (pausing.until <= this.#elapsedMs) pausing.end(true);
  }
}
