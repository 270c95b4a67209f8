/**
 * One process of the mistreated farm: kept running, and killed or stopped on demand by its process id.
 *
 * 1. While it is kept, it runs, except for the time that a kill asks for.
 * 2. An end that nobody asked for is counted and told: the farm's processes are to live through all of this.
 */
import { poll, systemClock } from "#actor/clock.ts";
import type { ProcessResult } from "#actor/subprocess.ts";
import { isFarmError, messageOf } from "#protocol/errors.ts";

export type RunProcess = (signal: AbortSignal, onStart: (pid: number) => void) => Promise<ProcessResult>;

/** After an end that nobody asked for, as a supervisor would. */
const restartMs = 250;
const startMsMax = 30_000;

export class KeptProcess implements AsyncDisposable {
  readonly name: string;
  /** How it ended by itself, each time. */
  readonly ownEnds: string[] = [];
  readonly #stopping = new AbortController();
  readonly #ended: Promise<void>;
  #pid: number | undefined;
  #killedForMs: number | undefined;

  constructor(name: string, run: RunProcess) {
    this.name = name;
    this.#ended = this.#keep(run);
  }

  /** Until it runs; not until it is ready. */
  async started(): Promise<void> {
    const pid = await poll(systemClock, { everyMs: 5, withinMs: startMsMax }, () => this.#pid);
    if (pid === undefined) throw new Error(`${this.name} does not start: ${this.ownEnds.join("; ")}`);
  }

  /** SIGKILL, and a start after `downMs`. @returns false when nothing of it runs at this moment, as the others below */
  kill(downMs: number): boolean {
    this.#killedForMs = downMs;
    const isHit = this.#signal("SIGKILL");
    if (!isHit) this.#killedForMs = undefined;
    return isHit;
  }

  pause(): boolean {
    return this.#signal("SIGSTOP");
  }

  resume(): boolean {
    return this.#signal("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.resume();
    this.#stopping.abort();
    await this.#ended;
  }

  #signal(signal: NodeJS.Signals): boolean {
    if (this.#pid === undefined) return false;
    try {
      return process.kill(this.#pid, signal);
    } catch {
      return false;
    }
  }

  async #keep(run: RunProcess): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const end = await this.#runOnce(run, signal);
      this.#pid = undefined;
      if (signal.aborted) return;
      const downMs = this.#killedForMs;
      this.#killedForMs = undefined;
      if (downMs === undefined) this.ownEnds.push(end);
      await systemClock.pause(downMs ?? restartMs, signal);
    }
  }

  /** @returns how it ended, for a line. */
  async #runOnce(run: RunProcess, signal: AbortSignal): Promise<string> {
    try {
      const { end, tail } = await run(signal, (pid) => (this.#pid = pid));
      return `${JSON.stringify(end)} ${tail.at(-1) ?? ""}`;
    } catch (error) {
      if (!isFarmError(error)) throw error;
      return messageOf(error);
    }
  }
}
