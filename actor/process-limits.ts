/**
 * Watches what a build takes of its machine, all its processes together, and says which limit it has reached.
 *
 * The processes are the leader, its session, and whatever descends from them. In a process namespace of its own nothing leaves
 * that tree: its first process inherits every orphan. Reading `/proc` finds them, so on another system there is no watch.
 */
import { readdirSync, readFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import type { Clock } from "#actor/clock.ts";

export interface ProcessLimits {
  /** Resident memory of all processes; what several share counts for each. */
  readonly memoryBytesMax: number;
  readonly processesMax: number;
  readonly disk: {
    /** On the disk whose free space says whether measuring is worth while. */
    readonly folder: string;
    readonly bytesMax: number;
    readonly measure: () => Promise<number>;
  };
}

export interface LimitReached {
  readonly resource: "memory" | "processes" | "disk";
  /** Bytes, or processes. */
  readonly limit: number;
  readonly used: number;
}

/** A look takes a few milliseconds. What a build can take between two of them it takes beyond its limit. */
const lookPauseMs = 100;
/** Of the disk limit: as much must be gone from the free space before the tree is measured, which takes 0.1 s and more. */
const measuredShare = 8;
/** The smallest size of a page there is; asking for the real one takes a program. */
const pageBytes = 4096;

/** Looks until the signal fires. @returns the first limit that was reached. */
export async function watchLimits(
  leaderPid: number,
  limits: ProcessLimits,
  clock: Clock,
  signal: AbortSignal,
): Promise<LimitReached | undefined> {
  const { disk } = limits;
  let freeBytes = await freeBytesOf(disk.folder);
  while (!signal.aborted) {
    const { processes, memoryBytes } = usageOf(leaderPid);
    if (processes > limits.processesMax) {
      return { resource: "processes", limit: limits.processesMax, used: processes };
    }
    if (memoryBytes > limits.memoryBytesMax) {
      return { resource: "memory", limit: limits.memoryBytesMax, used: memoryBytes };
    }
    const free = await freeBytesOf(disk.folder);
    if (freeBytes - free > disk.bytesMax / measuredShare) {
      freeBytes = free;
      const reached = await diskReached(limits);
      if (reached !== undefined) return reached;
    }
    freeBytes = Math.max(freeBytes, free);
    await clock.pause(lookPauseMs, signal);
  }
  return undefined;
}

/** For a build that has failed: whether it was its disk limit, which also ends the writing of a single file. */
export async function diskReached({ disk }: ProcessLimits): Promise<LimitReached | undefined> {
  const used = await disk.measure();
  return used >= disk.bytesMax ? { resource: "disk", limit: disk.bytesMax, used } : undefined;
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

interface Seen {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
  readonly memoryBytes: number;
}

function usageOf(leaderPid: number): { readonly processes: number; readonly memoryBytes: number } {
  const seen = allProcesses();
  const ours = new Set(
    seen.filter(({ pid, session }) => pid === leaderPid || session === leaderPid).map(({ pid }) => pid),
  );
  // Until nothing is added: a child may be listed before its parent.
  for (let before = -1; before < ours.size;) {
    before = ours.size;
    for (const { pid, parent } of seen) if (ours.has(parent)) ours.add(pid);
  }
  const memoryBytes = seen.reduce((sum, one) => sum + (ours.has(one.pid) ? one.memoryBytes : 0), 0);
  return { processes: ours.size, memoryBytes };
}

function allProcesses(): readonly Seen[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      // Behind the name: state, parent, group, session; the resident pages are the 24th field of all (proc_pid_stat(5)).
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const [, parent, , session] = fields.map(Number);
      return [
        { pid: Number(name), parent: parent ?? 0, session: session ?? 0, memoryBytes: Number(fields[21]) * pageBytes },
      ];
    } catch {
      // It has ended meanwhile.
      return [];
    }
  });
}
