/** Waiting for a world that is away. */
import type { Clock } from "#actor/clock.ts";
import { UnavailableError } from "#protocol/errors.ts";

const againMs = 200;

/**
 * Repeats `work` as long as it throws UnavailableError; anything else it throws is thrown.
 * @param onAway called at the first failure only: a world that stays away fills no log.
 * @returns undefined when the signal fired first.
 */
export async function whileUnavailable<T>(
  clock: Clock,
  signal: AbortSignal,
  work: () => Promise<T>,
  onAway?: (error: UnavailableError) => void,
): Promise<T | undefined> {
  let isFirst = true;
  while (!signal.aborted) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (isFirst) onAway?.(error);
      isFirst = false;
      await clock.pause(againMs, signal);
    }
  }
  return undefined;
}
