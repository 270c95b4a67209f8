/** A bounded queue with one consumer that takes everything that waits. */

/**
 * 1. Items leave in the order in which they came.
 * 2. A full mailbox refuses; what was taken in is never dropped.
 */
export class Mailbox<T> {
  readonly #capacity: number;
  #items: T[] = [];
  #wake: (() => void) | undefined;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** @returns false when the mailbox is full and the item was not taken. */
  post(item: T): boolean {
    if (this.#items.length >= this.#capacity) return false;
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** Everything that waits, at most `max`; waits for the first item, or gives nothing when the signal fires. */
  async take(max: number, signal: AbortSignal): Promise<readonly T[]> {
    if (this.#items.length === 0 && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const onAbort = () => resolve();
      signal.addEventListener("abort", onAbort, { once: true });
      await promise;
      // The signal lives as long as the process; a listener a take would pile up.
      signal.removeEventListener("abort", onAbort);
      this.#wake = undefined;
    }
    return this.#items.splice(0, max);
  }
}
