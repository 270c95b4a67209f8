/**
 * The processes of a user who has none but the commands that we start as that user.
 *
 * 1. A process of that user that neither is in the session of a command that runs nor descends from one that is has left its
 *    command, e.g. as a daemon: whichever command ends next takes it along.
 */
import { readFileSync } from "node:fs";
import { type Clock, poll, systemClock } from "#actor/clock.ts";
import { familyOf, type ListedProcess, listProcesses } from "#actor/process-table.ts";

/** SIGKILL takes milliseconds; what is left after this is stuck in the kernel. */
const strayEndMsMax = 10_000;
/** Some first processes of a machine reap what it inherits once a second; what takes longer hurts nobody but the next command. */
const reapedMsMax = 5_000;

export class UserProcesses {
  readonly #uid: number;
  readonly #clock: Clock;
  readonly #leaders = new Set<number>();

  constructor(uid: number, clock: Clock = systemClock) {
    this.#uid = uid;
    this.#clock = clock;
  }

  started(leaderPid: number): void {
    this.#leaders.add(leaderPid);
  }

  /** Ends what has left this or an earlier command (invariant 1). @returns whether nothing of it is left. */
  async end(leaderPid: number): Promise<boolean> {
    this.#leaders.delete(leaderPid);
    const isGone = await poll(this.#clock, { everyMs: 10, withinMs: strayEndMsMax }, () => {
      const strays = this.strays();
      for (const pid of strays) kill(pid);
      return strays.length === 0 ? true : undefined;
    });
    // What is dead and not reaped counts for the limit of the user's processes, and the next command could start none.
    const limits = { everyMs: 10, withinMs: reapedMsMax };
    await poll(this.#clock, limits, () => (this.#beyondCommands().length === 0 ? true : undefined));
    return isGone === true;
  }

  /** Process ids; all of the user's where no command runs. */
  strays(): readonly number[] {
    return this.#beyondCommands()
      .filter(({ isDead }) => !isDead)
      .map(({ pid }) => pid);
  }

  #beyondCommands(): readonly ListedProcess[] {
    const listed = listProcesses();
    const ours = familyOf(this.#leaders, listed);
    return listed.filter(({ pid }) => !ours.has(pid) && this.#owns(pid));
  }

  #owns(pid: number): boolean {
    try {
      const [, uid] = /^Uid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
      return Number(uid) === this.#uid;
    } catch {
      // It has ended meanwhile.
      return false;
    }
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Already gone: what was wanted.
  }
}
