/**
 * Process groups: every child runs as the leader of its own, so that a build's grandchildren die with it. It also leads a
 * session: ninja gives each compiler a group of its own, and only the session tells that it belongs to the build.
 * Also the notes on disk by which a restarted agent finds and ends what its killed predecessor left running.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type Clock, poll } from "#actor/clock.ts";
import { UnavailableError } from "#protocol/errors.ts";

/**
 * Whether any process of the group or of its session is left. A dead orphan that init has not reaped yet does not count: in a
 * container whose first process reaps nobody it stays for ever.
 */
export function isGroupAlive(leaderPid: number): boolean {
  if (isMember(leaderPid, leaderPid)) return true;
  const members = membersOf(leaderPid);
  if (members !== undefined) return members.length > 0;
  try {
    process.kill(-leaderPid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** State, parent, group and session follow the command name, which stands in parentheses and may hold spaces (proc_pid_stat(5)). */
function fieldsAfterName(stat: string): readonly string[] {
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** `undefined` where there is no such process, or no /proc. */
function statOf(pid: number | string): readonly string[] | undefined {
  try {
    return fieldsAfterName(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return undefined;
  }
}

/** True for a process that runs in the leader's group or session. */
function isMember(pid: number, leaderPid: number): boolean {
  const [state = "X", , group, session] = statOf(pid) ?? [];
  return state !== "Z" && state !== "X" && [group, session].includes(String(leaderPid));
}

/** Looks through all processes, which takes milliseconds: asked only once the leader is gone. `undefined` where there is no /proc. */
function membersOf(leaderPid: number): readonly number[] | undefined {
  try {
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return pids.length === 0 ? undefined : pids.map(Number).filter((pid) => isMember(pid, leaderPid));
  } catch {
    return undefined;
  }
}

export function signalGroup(leaderPid: number, signal: NodeJS.Signals): void {
  for (const pid of [-leaderPid, ...(membersOf(leaderPid) ?? [])]) {
    try {
      process.kill(pid, signal);
    } catch {
      // Already gone: what was wanted.
    }
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
    // Field 22, counted from the start of the line.
    return fieldsAfterName(await readFile(`/proc/${pid}/stat`, "utf8"))[19];
  } catch {
    return undefined;
  }
}

/**
 * Ends the group and, because ninja gives each compiler a group of its own, everything else of the leader's session: the
 * fields behind the name in a stat line are state, parent, group, session (proc_pid_stat(5)). Then what ends the rest, if any.
 */
const guardScript = `
read -r _
leader=$1
shift
kill -s KILL -- "-$leader"
(
  for file in /proc/[0-9]*/stat; do
    { read -r line < "$file"; } || continue
    set -- \${line##*) }
    [ "$4" = "$leader" ] && kill -s KILL "\${line%% *}"
  done
)
[ $# -gt 0 ] && exec "$@"`;

/**
 * A shell outside of the group that waits on a pipe from us. Only our death closes the pipe, because `forget` ends the shell
 * first; what else inherits our descriptors does not get this one.
 */
function guardOf(pid: number, endCommand: readonly string[]): ChildProcess {
  const guard = spawn("/bin/sh", ["-c", guardScript, "guard", String(pid), ...endCommand], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    env: {},
  });
  // Without a shell there is no guard; the ledger still ends what is left at the next start.
  guard.on("error", () => {});
  guard.unref();
  return guard;
}

/** Ending a container takes a second. */
const endCommandMsMax = 30_000;

/** @param noted an end command as `note` has written it. @returns whether nothing is left. */
async function hasEnded(noted: string): Promise<boolean> {
  const read = EndCommand.safeParse(noted);
  // Half a note is what a power cut leaves, and that has ended everything.
  if (!read.success) return true;
  const [file, ...args] = read.data;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const child = spawn(file, args, { stdio: "ignore", env: {}, timeout: endCommandMsMax, killSignal: "SIGKILL" });
  child.once("error", () => resolve(false));
  child.once("exit", (exitCode) => resolve(exitCode === 0));
  return promise;
}

const EndCommand = z
  .string()
  .transform((text, context): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      context.addIssue("not JSON");
      return z.NEVER;
    }
  })
  .pipe(z.tuple([z.string()], z.string()));

export interface GroupLedgerOptions {
  /** Noted groups are killed when this process dies without having ended them, even by SIGKILL. */
  readonly isGuarding?: boolean;
}

/** Notes `<pid>` files in a folder while groups run; what is found there at a start was left by a killed predecessor. */
export class GroupLedger {
  readonly #folder: string;
  readonly #isGuarding: boolean;
  readonly #guards = new Map<number, ChildProcess>();

  constructor(folder: string, { isGuarding = false }: GroupLedgerOptions = {}) {
    this.#folder = folder;
    this.#isGuarding = isGuarding;
  }

  /** @param endCommand ends what is beyond the session, where something is; exit code 0: nothing of it is left. */
  async note(pid: number, endCommand: readonly string[] = []): Promise<void> {
    if (this.#isGuarding) this.#guards.set(pid, guardOf(pid, endCommand));
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const lines = [(await startTimeOf(pid)) ?? "", ...(endCommand.length === 0 ? [] : [JSON.stringify(endCommand)])];
    await writeFile(join(this.#folder, String(pid)), lines.join("\n"), { mode: 0o600 });
  }

  async forget(pid: number): Promise<void> {
    this.#guards.get(pid)?.kill("SIGKILL");
    this.#guards.delete(pid);
    await rm(join(this.#folder, String(pid)), { force: true });
  }

  /** Ends every group that a predecessor left. @returns the pids of groups that could not be ended. */
  async endLeftovers(clock: Clock): Promise<readonly number[]> {
    const survivors: number[] = [];
    for (const name of await readdir(this.#folder).catch(() => [])) {
      const pid = Number(name);
      const [noted = "", endCommand] = (await readFile(join(this.#folder, name), "utf8")).split("\n");
      const now = await startTimeOf(pid);
      // A leader that is gone while its group lives keeps the pid from being reused, so the group is still ours.
      const isOurs = now === undefined || noted === "" || now === noted;
      if (isOurs && !(await endGroup(clock, pid, 500))) survivors.push(pid);
      else if (endCommand !== undefined && !(await hasEnded(endCommand))) survivors.push(pid);
      else await this.forget(pid);
    }
    return survivors;
  }

  /** The same for whoever cannot start beside them. @throws UnavailableError `survivors` */
  async requireNoLeftovers(clock: Clock): Promise<void> {
    const survivors = await this.endLeftovers(clock);
    if (survivors.length === 0) return;
    throw new UnavailableError("survivors", `processes of a former run cannot be ended: ${survivors.join(", ")}`);
  }
}
