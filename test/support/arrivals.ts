/** What arrives at a test, taken one after the other; whoever waits for something that never comes is told so. */

/** A machine that is busy with other tests needs a second for what takes milliseconds otherwise. */
const withinMsMax = 8_000;

export class Arrivals<T> {
  readonly all: T[] = [];
  readonly #name: string;
  #taken = 0;
  #wake: (() => void) | undefined;

  /** @param name what arrives here, for the message of a test that waits in vain */
  constructor(name: string) {
    this.#name = name;
  }

  readonly push = (item: T): void => {
    this.all.push(item);
    this.#wake?.();
  };

  /** The next one that fits; those before it are passed over. */
  async next(fits: (item: T) => boolean = () => true): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new Error(`no ${this.#name} came within ${withinMsMax} ms`)),
      withinMsMax,
    );
    try {
      for (;;) {
        for (; this.#taken < this.all.length;) {
          const item = this.all[this.#taken]!;
          this.#taken += 1;
          if (fits(item)) return item;
        }
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        await Promise.race([promise, late.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}
