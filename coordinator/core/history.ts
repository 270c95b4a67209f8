/** Which finished chains the history gives up. Pure. */
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";

export interface HistoryLimits {
  /** That many of the newest chains are kept. */
  readonly chainsMax: number;
  /** And of those, what ended less long ago. */
  readonly ageMsMax: number;
}

/**
 * The chains beyond the limits, but for the latest of each job of each configuration: whatever the count, a device's last build
 * and its last upload can be read, with their logs, also when they are of two chains.
 * @param newestFirst in order of their ends
 */
export function prunable(newestFirst: readonly Chain[], limits: HistoryLimits, at: number): readonly ChainId[] {
  const latest = new Set<string>();
  const gone: ChainId[] = [];
  for (const [index, chain] of newestFirst.entries()) {
    // Jobs that never began left nothing to read.
    const begun = jobsOf(chain).filter((job) => job.attempt > 0);
    const keys = configurationsOf(chain).flatMap((name) => begun.map((job) => `${job.name} ${name}`));
    const isLatest = keys.some((key) => !latest.has(key));
    for (const key of keys) latest.add(key);
    const isWithin = index < limits.chainsMax && at - endOf(chain) <= limits.ageMsMax;
    if (!isLatest && !isWithin) gone.push(chain.id);
  }
  return gone;
}

function endOf(chain: Chain): number {
  return Math.max(...jobsOf(chain).map((job) => job.endedAt ?? chain.createdAt), chain.createdAt);
}
