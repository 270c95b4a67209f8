/** A sum over what comes and goes. */
import type { ChainId } from "#protocol/ids.ts";

export class SumOfIds {
  readonly #values = new Map<ChainId, number>();
  /** Exact: the values are whole. */
  #sum = 0;

  get sum(): number {
    return this.#sum;
  }

  get size(): number {
    return this.#values.size;
  }

  put(id: ChainId, value: number): void {
    this.remove(id);
    const whole = Math.round(value);
    this.#values.set(id, whole);
    this.#sum += whole;
  }

  remove(id: ChainId): void {
    this.#sum -= this.#values.get(id) ?? 0;
    this.#values.delete(id);
  }
}
