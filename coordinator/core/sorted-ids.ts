/** Chain ids in the order of a number each, lowest first; among equals in their own order. */
import type { ChainId } from "#protocol/ids.ts";

interface Entry {
  readonly key: number;
  readonly id: ChainId;
}

export class SortedIds {
  readonly #entries: Entry[] = [];
  readonly #keys = new Map<ChainId, number>();

  get size(): number {
    return this.#entries.length;
  }

  keyOf(id: ChainId): number | undefined {
    return this.#keys.get(id);
  }

  *ids(): Iterable<ChainId> {
    for (const { id } of this.#entries) yield id;
  }

  /** Puts an id in its place, or from its former one into it. */
  put(id: ChainId, key: number): void {
    if (this.#keys.get(id) === key) return;
    this.remove(id);
    this.#keys.set(id, key);
    this.#entries.splice(this.#placeOf({ key, id }), 0, { key, id });
  }

  remove(id: ChainId): void {
    const key = this.#keys.get(id);
    if (key === undefined) return;
    this.#keys.delete(id);
    this.#entries.splice(this.#placeOf({ key, id }), 1);
  }

  /** Where an entry stands, or would. */
  #placeOf(entry: Entry): number {
    let [low, high] = [0, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#entries[middle];
      if (other !== undefined && isBefore(other, entry)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.key < b.key || (a.key === b.key && a.id < b.id);
}
