/** Time as an argument: wall clock for records, a monotonic clock for deadlines, timers that end with a signal. */
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** Wall clock, ms since 1970; may jump. */
  now(): number;
  /** Monotonic ms from an arbitrary start; counts through SIGSTOP, so a paused process sees that it was paused. */
  monotonic(): number;
  /** Resolves after `ms`, or at once and with `false` when the signal fires. */
  pause(ms: number, signal?: AbortSignal): Promise<boolean>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async pause(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
      return true;
    } catch {
      return false;
    }
  },
};

/**
 * Calls `attempt` until it gives something else than `undefined`, `everyMs` apart, for at most `withinMs`.
 * Returns `undefined` when the time ran out or the signal fired.
 */
export async function poll<T>(
  clock: Clock,
  limits: { readonly everyMs: number; readonly withinMs: number; readonly signal?: AbortSignal },
  attempt: () => T | undefined | Promise<T | undefined>,
): Promise<T | undefined> {
  const until = clock.monotonic() + limits.withinMs;
  for (;;) {
    const found = await attempt();
    if (found !== undefined) return found;
    if (limits.signal?.aborted === true || clock.monotonic() >= until) return undefined;
    await clock.pause(limits.everyMs, limits.signal);
  }
}
