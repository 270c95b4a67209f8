/**
 * Process groups: every child runs as the leader of its own, so that a build's grandchildren die with it.
 * Also the notes on disk by which a restarted agent finds and ends what its killed predecessor left running.
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, poll } from "#actor/clock.ts";

/** Whether any process of the group is left. A zombie counts until its parent has reaped it. */
export function isGroupAlive(leaderPid: number): boolean {
  try {
    process.kill(-leaderPid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

export function signalGroup(leaderPid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leaderPid, signal);
  } catch {
    // Already gone: what was wanted.
  }
}

/**
 * SIGTERM, a grace, SIGKILL, and a wait until nobody of the group is left.
 * @returns false when something survived SIGKILL for `withinMs` (a process stuck in the kernel).
 */
export async function endGroup(clock: Clock, leaderPid: number, graceMs: number, withinMs = 10_000): Promise<boolean> {
  if (!isGroupAlive(leaderPid)) return true;
  signalGroup(leaderPid, "SIGTERM");
  const gone = (limitMs: number) =>
    poll(clock, { everyMs: 10, withinMs: limitMs }, () => (isGroupAlive(leaderPid) ? undefined : true));
  if ((await gone(graceMs)) === true) return true;
  signalGroup(leaderPid, "SIGKILL");
  return (await gone(withinMs)) === true;
}

/** When the process started, in the kernel's own count; tells a reused pid from the original. Linux only, else undefined. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // The command name in parentheses may hold spaces; field 22 counts from the start of the line.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

/** Notes `<pid>` files in a folder while groups run; what is found there at a start was left by a killed predecessor. */
export class GroupLedger {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async note(pid: number): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    await writeFile(join(this.#folder, String(pid)), (await startTimeOf(pid)) ?? "");
  }

  async forget(pid: number): Promise<void> {
    await rm(join(this.#folder, String(pid)), { force: true });
  }

  /** Ends every group that a predecessor left. @returns the pids of groups that could not be ended. */
  async endLeftovers(clock: Clock): Promise<readonly number[]> {
    const survivors: number[] = [];
    for (const name of await readdir(this.#folder).catch(() => [])) {
      const pid = Number(name);
      const noted = await readFile(join(this.#folder, name), "utf8");
      const now = await startTimeOf(pid);
      // A leader that is gone while its group lives keeps the pid from being reused, so the group is still ours.
      const isOurs = now === undefined || noted === "" || now === noted;
      if (isOurs && !(await endGroup(clock, pid, 500))) survivors.push(pid);
      else await this.forget(pid);
    }
    return survivors;
  }
}
