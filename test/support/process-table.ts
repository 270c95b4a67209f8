/** What runs on this machine, read from /proc by the tests themselves: the code under test is not asked about itself. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8").replaceAll("\0", " ").trim();
  } catch {
    return "";
  }
}

function folderOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return "";
  }
}

/** State, parent, group and so on; the command's name before them may hold spaces and parentheses (proc_pid_stat(5)). */
function statOf(pid: number): readonly string[] {
  return read(pid, "stat").split(") ").at(-1)?.split(" ") ?? [];
}

function allProcesses(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** False for a zombie too: it runs no more. */
export function isRunning(pid: number): boolean {
  const [state = ""] = statOf(pid);
  return state !== "" && !/[ZX]/.test(state);
}

/** Members of a process group that run. */
export function runningInGroup(leader: number): readonly number[] {
  return allProcesses().filter((pid) => statOf(pid)[2] === String(leader) && isRunning(pid));
}

/** Processes that run inside a folder. */
export function runningIn(folder: string): readonly string[] {
  return allProcesses()
    .filter((pid) => isRunning(pid) && folderOf(pid).startsWith(folder))
    .map((pid) => `${pid} ${read(pid, "cmdline")}`);
}

/** Processes other than this one that have one of these texts in their command, folder or environment. */
export function runningWith(texts: readonly string[]): readonly string[] {
  const isWith = (pid: number) => {
    const known = [read(pid, "cmdline"), folderOf(pid), read(pid, "environ")].join(" ");
    return texts.some((text) => known.includes(text));
  };
  return allProcesses()
    .filter((pid) => pid !== process.pid && isRunning(pid) && isWith(pid))
    .map((pid) => `${pid} ${read(pid, "cmdline")}`);
}

/** The memory that a process has in RAM. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(read(pid, "status"))?.[1]) * 1024;
}
