/** Work on a sequence that runs ahead of whoever takes its results. */
import type { Clock } from "#actor/clock.ts";

/**
 * Starts `work` on the items in their order, `width()` at a time, and gives the results in the same order. The first failure ends it;
 * what was under way then is left to itself.
 */
export async function* inOrder<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  width: () => number,
  work: (item: T) => R | Promise<R>,
): AsyncGenerator<R> {
  const ahead: Promise<R>[] = [];
  for await (const item of items) {
    const started = Promise.resolve(work(item));
    // Whoever has stopped taking results hears of no failure any more.
    started.catch(() => undefined);
    ahead.push(started);
    for (let first; ahead.length >= width() && (first = ahead.shift()) !== undefined;) yield await first;
  }
  for (const started of ahead) yield await started;
}

/** Longer answers mean a slow line, on which NATS's own pings wait behind what is under way and the connection counts as dead. */
const slowMs = 1_000;

/** How many messages may be under way: as many as are answered in time. */
export class Pace {
  readonly #clock: Clock;
  readonly #widthMax: number;
  #width = 2;

  constructor(clock: Clock, widthMax: number) {
    this.#clock = clock;
    this.#widthMax = widthMax;
  }

  get width(): number {
    return this.#width;
  }

  async time<T>(asked: Promise<T>): Promise<T> {
    const startedAt = this.#clock.monotonic();
    const answer = await asked;
    const isSlow = this.#clock.monotonic() - startedAt > slowMs;
    this.#width = isSlow ? Math.ceil(this.#width / 2) : Math.min(this.#width + 1, this.#widthMax);
    return answer;
  }
}
