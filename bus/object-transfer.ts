/** Bringing bytes from or to an object store inside a stage of a job. */
import type { Clock } from "#actor/clock.ts";
import { whileUnavailable } from "#actor/patience.ts";
import type { StageWatch } from "#actor/stage.ts";
import type { Transfer } from "#bus/object-store.ts";

/**
 * Transfers one object until that succeeds: what the store or the network does only delays it, up to the limits of the stage. A
 * try that gets no further than one before it is no sign of life. @returns undefined when the stage's signal fired first.
 */
export function transferWithin<T extends object>(
  { signal, moved }: StageWatch,
  clock: Clock,
  transfer: (transfer: Transfer) => Promise<T>,
): Promise<T | undefined> {
  let farthest = 0;
  return whileUnavailable(clock, signal, () => {
    let chunks = 0;
    const onChunk = () => {
      chunks += 1;
      if (chunks <= farthest) return;
      farthest = chunks;
      moved();
    };
    return transfer({ signal, onChunk });
  });
}
