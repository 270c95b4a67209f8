/**
 * Watches what a build takes of its machine, all its processes together, and says which limit it has reached.
 *
 * The processes are the leader, its session, and whatever descends from them. In a process namespace of its own nothing leaves
 * that tree: its first process inherits every orphan. Reading `/proc` finds them, so on another system there is no watch.
 */
import { statfs } from "node:fs/promises";
import type { Clock } from "#actor/clock.ts";
import { familyOf, listProcesses } from "#actor/process-table.ts";

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

function usageOf(leaderPid: number): { readonly processes: number; readonly memoryBytes: number } {
  const listed = listProcesses();
  const ours = familyOf(new Set([leaderPid]), listed);
  const memoryBytes = listed.reduce((sum, one) => sum + (ours.has(one.pid) ? one.memoryBytes : 0), 0);
  return { processes: ours.size, memoryBytes };
}
