/**
 * Simulated time: a queue of happenings, and a clock that jumps from one to the next.
 *
 * 1. Happenings run in order of their instants; those of one instant in the order in which they were planned.
 * 2. Before the next one runs, every promise that the last one settled has been followed to its end. Only processes have promises:
 *    a happening that has stirred none is followed by the next one at once.
 */

interface Happening {
  readonly at: number;
  readonly order: number;
  run: (() => void) | undefined;
}

/** Takes a planned happening back. */
export type Cancel = () => void;

/**
 * Resolves when no promise callback is waiting any more. A tick that is asked for from inside a promise callback runs when
 * the queue of promise callbacks is empty (Node, lib/internal/process/task_queues.js), and no turn of the event loop is spent.
 */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

export class SimulatedTime {
  /** ms since the start of the simulation; the true time that no process sees. */
  now = 0;
  readonly #heap: Happening[] = [];
  #isStirred = true;
  #order = 0;

  after(ms: number, run: () => void): Cancel {
    const happening: Happening = { at: this.now + Math.max(0, ms), order: this.#order, run };
    this.#order += 1;
    this.#push(happening);
    return () => {
      happening.run = undefined;
    };
  }

  /** Called whenever a process runs. */
  stir(): void {
    this.#isStirred = true;
  }

  /** Runs until `isOver` or the instant; afterwards `now` is that of the last happening. */
  async run(untilMs: number, isOver: () => boolean): Promise<void> {
    await Promise.resolve();
    await settled();
    while (!isOver()) {
      const next = this.#pop();
      if (next === undefined || next.at > untilMs) {
        if (next !== undefined) this.#push(next);
        this.now = untilMs;
        return;
      }
      if (next.run === undefined) continue;
      this.now = next.at;
      next.run();
      if (!this.#isStirred) continue;
      this.#isStirred = false;
      await settled();
    }
  }

  #push(happening: Happening): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(happening);
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (!isBefore(happening, heap[up]!)) break;
      heap[at] = heap[up]!;
      at = up;
    }
    heap[at] = happening;
  }

  #pop(): Happening | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && isBefore(heap[down + 1]!, heap[down]!)) down += 1;
      if (!isBefore(heap[down]!, last)) break;
      heap[at] = heap[down]!;
      at = down;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Happening, b: Happening): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
