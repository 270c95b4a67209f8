/**
 * Keeps the processes of a farm on one machine running.
 *
 * 1. A member that ends without having been told to is started again, after a pause that grows while it keeps failing.
 * 2. Members are stopped in the reverse order of their start: agents first, so that they can still report.
 */
import type { Clock } from "#actor/clock.ts";
import type { ProcessResult } from "#actor/subprocess.ts";
import { isFarmError, messageOf } from "#protocol/errors.ts";

export interface Member {
  readonly name: string;
  /** Runs the process to its end; the signal asks for that end. */
  run(signal: AbortSignal): Promise<ProcessResult>;
}

/** A first restart is quick, a member that cannot start does not load the machine. */
const restartMsMin = 250;
const restartMsMax = 10_000;
/** A life of this length counts as a good start. */
const goodLifeMs = 30_000;

export class Supervisor implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #say: (line: string) => void;
  readonly #kept: { readonly stopping: AbortController; readonly ended: Promise<void> }[] = [];

  constructor(clock: Clock, say: (line: string) => void) {
    this.#clock = clock;
    this.#say = say;
  }

  keep(member: Member): void {
    const stopping = new AbortController();
    this.#kept.push({ stopping, ended: this.#keepAlive(member, stopping.signal) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { stopping, ended } of this.#kept.toReversed()) {
      stopping.abort();
      await ended;
    }
  }

  async #keepAlive(member: Member, signal: AbortSignal): Promise<void> {
    let pauseMs = restartMsMin;
    while (!signal.aborted) {
      const startedAt = this.#clock.monotonic();
      const end = await this.#runOnce(member, signal);
      if (signal.aborted) return;
      if (this.#clock.monotonic() - startedAt >= goodLifeMs) pauseMs = restartMsMin;
      this.#say(`${member.name} ended (${end}): starting it again`);
      await this.#clock.pause(pauseMs, signal);
      pauseMs = Math.min(restartMsMax, pauseMs * 2);
    }
  }

  /** @returns how it ended, for a line. */
  async #runOnce(member: Member, signal: AbortSignal): Promise<string> {
    try {
      const { end, tail } = await member.run(signal);
      const lastWords = end.kind === "exited" && tail.length > 0 ? `, ${tail.at(-1)?.trim() ?? ""}` : "";
      if (end.kind === "exited") return `exit code ${end.exitCode}${lastWords}`;
      return end.kind === "signalled" ? end.signal : end.kind;
    } catch (error) {
      if (!isFarmError(error)) throw error;
      return messageOf(error);
    }
  }
}
