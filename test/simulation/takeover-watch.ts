/**
 * Judges promise 10 of the oracle: whatever becomes of the coordinator that leads, one that stood by leads within 10 s.
 *
 * Only of what happens to one coordinator alone: a standby that is in trouble itself, or has no server, takes over nothing.
 */
import type { SimulatedCoordinator } from "#test/simulation/simulated-coordinator.ts";
import type { SimulatedTime } from "#test/simulation/simulated-time.ts";

export const takeoverMsMax = 10_000;

export class TakeoverWatch {
  readonly #time: SimulatedTime;
  readonly #coordinators: readonly SimulatedCoordinator[];
  readonly #onMissed: (sentence: string) => void;
  #troubles = 0;
  /** How many times there was something to judge. */
  judged = 0;

  constructor(
    time: SimulatedTime,
    coordinators: readonly SimulatedCoordinator[],
    onMissed: (sentence: string) => void,
  ) {
    this.#time = time;
    this.#coordinators = coordinators;
    this.#onMissed = onMissed;
  }

  /** The server or a coordinator is in trouble, from this moment on. */
  disturb(): void {
    this.#troubles += 1;
  }

  /** Called before the one that leads gets into trouble. */
  lead(by: SimulatedCoordinator): void {
    this.disturb();
    const isOnTime = by.isLeading && by.isAble && this.#coordinators.some((other) => other !== by && other.isAble);
    if (!isOnTime) return;
    const troubles = this.#troubles;
    this.#time.after(takeoverMsMax, () => {
      if (troubles !== this.#troubles) return;
      this.judged += 1;
      if (!this.#coordinators.some((coordinator) => coordinator.isLeading && coordinator.isAble))
        this.#onMissed(`nobody leads ${takeoverMsMax} ms after the trouble of ${by.name}`);
    });
  }
}
