/**
 * A process that can be killed and paused at any instant, as the operating system sees it: code under test runs in it and
 * reaches the world only through it.
 *
 * 1. Nothing is delivered to a dead process, and none of its timers fires; its promises stay pending for ever.
 * 2. While it is paused, deliveries and timers wait; its clocks go on.
 */
import type { Clock } from "#actor/clock.ts";
import type { Cancel, SimulatedTime } from "#test/simulation/simulated-time.ts";

export class SimulatedProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #time: SimulatedTime;
  #isAlive = true;
  #isPaused = false;
  #pauses = 0;
  #waiting: (() => void)[] = [];
  readonly #atDeath: (() => void)[] = [];
  /** One listener a signal, however many pauses end with it. */
  readonly #pausesOf = new WeakMap<AbortSignal, Set<() => void>>();

  /** @param wallClock this machine's wall clock, ms since 1970 */
  constructor(time: SimulatedTime, name: string, wallClock: () => number) {
    this.#time = time;
    this.name = name;
    this.clock = {
      now: wallClock,
      monotonic: () => time.now,
      pause: (ms, signal) => this.#pause(ms, signal),
    };
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** How often it was paused. */
  get pauses(): number {
    return this.#pauses;
  }

  /** Runs now, when the process goes on, or never. */
  deliver(run: () => void): void {
    if (!this.#isAlive) return;
    if (this.#isPaused) {
      this.#waiting.push(run);
      return;
    }
    this.#time.stir();
    run();
  }

  after(ms: number, run: () => void): Cancel {
    return this.#time.after(ms, () => this.deliver(run));
  }

  /** What the kernel does for a process that dies, e.g. closing its connections. */
  onDeath(run: () => void): void {
    this.#atDeath.push(run);
  }

  kill(): void {
    if (!this.#isAlive) return;
    this.#isAlive = false;
    this.#waiting = [];
    for (const run of this.#atDeath) run();
  }

  pauseFor(ms: number): void {
    if (!this.#isAlive || this.#isPaused) return;
    this.#isPaused = true;
    this.#pauses += 1;
    this.#time.after(ms, () => {
      if (!this.#isAlive) return;
      this.#isPaused = false;
      for (const run of this.#waiting.splice(0)) this.deliver(run);
    });
  }

  #pause(ms: number, signal?: AbortSignal): Promise<boolean> {
    if (signal?.aborted === true) return Promise.resolve(false);
    return new Promise((resolve) => {
      const pauses = signal === undefined ? undefined : this.#pausesWith(signal);
      const cut = () => {
        cancel();
        resolve(false);
      };
      const cancel = this.after(ms, () => {
        pauses?.delete(cut);
        resolve(true);
      });
      pauses?.add(cut);
    });
  }

  #pausesWith(signal: AbortSignal): Set<() => void> {
    const known = this.#pausesOf.get(signal);
    if (known !== undefined) return known;
    const pauses = new Set<() => void>();
    this.#pausesOf.set(signal, pauses);
    signal.addEventListener("abort", () => {
      for (const cut of pauses) cut();
      pauses.clear();
    });
    return pauses;
  }
}
