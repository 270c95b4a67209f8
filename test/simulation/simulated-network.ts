/**
 * The way between processes and the server: loses, repeats, delays and so reorders messages, and cuts processes off.
 *
 * 1. A message that is sent or would arrive while one of its ends is cut off is lost.
 * 2. Messages `sendInOrder` under one key never overtake each other; they can still be lost.
 */
import type { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import type { SimulatedTime } from "#test/simulation/simulated-time.ts";

export interface NetworkFaults {
  readonly lossChance: number;
  readonly repeatChance: number;
  readonly slowChance: number;
  readonly slowMsMax: number;
}

export const faultlessNetwork: NetworkFaults = { lossChance: 0, repeatChance: 0, slowChance: 0, slowMsMax: 0 };

export class SimulatedNetwork {
  faults: NetworkFaults = faultlessNetwork;
  readonly #time: SimulatedTime;
  readonly #random: SimulatedRandom;
  readonly #cutUntil = new Map<string, number>();
  readonly #lastArrival = new Map<string, number>();
  /** Counts restarts of the server; what was under way during one is lost. */
  #epoch = 0;

  constructor(time: SimulatedTime, random: SimulatedRandom) {
    this.#time = time;
    this.#random = random;
  }

  isCut(end: string): boolean {
    return this.#time.now < (this.#cutUntil.get(end) ?? 0);
  }

  /** Cuts an end off from the server and so from everybody else. */
  cut(end: string, ms: number): void {
    this.#cutUntil.set(end, Math.max(this.#cutUntil.get(end) ?? 0, this.#time.now + ms));
  }

  heal(): void {
    this.#cutUntil.clear();
  }

  /** The server restarts: everything under way is lost. */
  dropAll(): void {
    this.#epoch += 1;
  }

  send(from: string, to: string, arrive: () => void): void {
    this.#sendOnce(from, to, arrive, this.#delay());
    if (this.#random.chance(this.faults.repeatChance)) this.#sendOnce(from, to, arrive, this.#delay());
  }

  sendInOrder(key: string, from: string, to: string, arrive: () => void): void {
    const at = Math.max(this.#time.now + this.#delay(), this.#lastArrival.get(key) ?? 0);
    this.#lastArrival.set(key, at);
    this.#sendOnce(from, to, arrive, at - this.#time.now);
  }

  #delay(): number {
    const { slowChance, slowMsMax } = this.faults;
    return this.#random.chance(slowChance) ? this.#random.between(10, slowMsMax) : this.#random.between(1, 5);
  }

  #sendOnce(from: string, to: string, arrive: () => void, delayMs: number): void {
    if (this.isCut(from) || this.isCut(to) || this.#random.chance(this.faults.lossChance)) return;
    const epoch = this.#epoch;
    this.#time.after(delayMs, () => {
      if (epoch === this.#epoch && !this.isCut(from) && !this.isCut(to)) arrive();
    });
  }
}
