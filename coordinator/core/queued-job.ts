/** The job by which a chain stands in the queue of a lane. */
import { type Chain, jobsOf } from "#protocol/chain.ts";
import type { Job, Lane } from "#protocol/job.ts";

export function queuedJob(chain: Chain, lane: Lane): Job | undefined {
  return jobsOf(chain).find((job) => job.lane === lane && job.state === "queued");
}
