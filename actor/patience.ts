/** Waiting for a world that is away. */
import type { Clock } from "#actor/clock.ts";
import { UnavailableError } from "#protocol/errors.ts";

const againMs = 200;

/**
 * Repeats `work` as long as it throws UnavailableError; anything else it throws is thrown.
 * @returns undefined when the signal fired first.
 */
export async function whileUnavailable<T>(
  clock: Clock,
  signal: AbortSignal,
  work: () => Promise<T>,
  onAway?: (error: UnavailableError) => void,
): Promise<T | undefined> {
  while (!signal.aborted) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      onAway?.(error);
      await clock.pause(againMs, signal);
    }
  }
  return undefined;
}
