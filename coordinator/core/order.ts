/**
 * The order of the queue.
 *
 * 1. A job's place is given by the instant at which it was queued, its priority and the time that it is expected to take. Waiting counts
 *    for all alike, so that no two of them ever change places by waiting, and what comes later than the whole of what a job is
 *    behind by comes behind it: nothing starves.
 * 2. Where it is expected to take longer by a second, a build lets those go first that come up to `stretch` seconds later. Of a bulk,
 *    which comes at one instant, the shortest goes first.
 * 3. What goes ahead of its place (`queue.ts`) passes nothing that is more urgent, or that has been there `aheadMsMax` longer.
 */
import type { Chain, Priority } from "#protocol/chain.ts";
import type { Job } from "#protocol/job.ts";
import { expectedBuildMs } from "#coordinator/core/durations.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";

/** A cold build of two minutes waits 40 minutes at most for shorter ones that come later. */
const stretch = 20;

const hourMs = 60 * 60_000;
/** How much earlier or later than it did a request counts as having come (ms). */
const headStartMs: Readonly<Record<Priority, number>> = { urgent: -4 * hourMs, interactive: 0, bulk: hourMs };

/** Longer than a bulk takes to be asked for; what is starved by others that go ahead waits so much longer. */
const aheadMsMax = hourMs;

const ranks: Readonly<Record<Priority, number>> = { urgent: 0, interactive: 1, bulk: 2 };

/** The most urgent first. */
export function rankOf({ priority }: Chain): number {
  return ranks[priority ?? "interactive"];
}

/** What a build's length depends on. */
export interface Outlook {
  readonly knowledge: Pick<Knowledge, "durations">;
  /** Whether an agent that is here has the tree of the chain's configuration. */
  hasTree(chain: Chain): boolean;
}

/** Of a build, wherever it will be best. */
export function expectedMs(outlook: Outlook, chain: Chain): number {
  return chain.compile === undefined ? 0 : expectedBuildMs(outlook.knowledge, chain, outlook.hasTree(chain));
}

/** Lower goes first; among equals the chain's id decides. @param buildMs how long the build is expected to take */
export function orderKey(chain: Chain, job: Job, buildMs: number): number {
  const since = sinceOf(chain, job) + headStartMs[chain.priority ?? "interactive"];
  return job.name === "compile" ? since + stretch * buildMs : since;
}

/** Invariant 3. */
export function mayPass(one: { readonly chain: Chain; readonly job: Job }, other: typeof one): boolean {
  return (
    rankOf(one.chain) <= rankOf(other.chain) &&
    sinceOf(one.chain, one.job) - sinceOf(other.chain, other.job) <= aheadMsMax
  );
}

function sinceOf({ createdAt }: Chain, { queuedAt }: Job): number {
  return queuedAt ?? createdAt;
}
