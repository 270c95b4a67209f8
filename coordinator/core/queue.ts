/** In which order the jobs of a lane are looked at: that of their keys, except for what goes ahead (`order.ts`, invariant 3). */
import type { Chain } from "#protocol/chain.ts";
import type { Lane } from "#protocol/job.ts";
import type { Draft } from "#coordinator/core/farm.ts";
import { mayPass } from "#coordinator/core/order.ts";
import { queuedJob } from "#coordinator/core/queued-job.ts";
import { fedAhead, mostAirtimeFirst } from "#coordinator/core/scarce-media.ts";
import type { LaneState } from "#coordinator/core/slots.ts";

/** @param lanes of this kind; one chain may come twice */
export function* inOrder(draft: Draft, lane: Lane, lanes: readonly LaneState[]): Iterable<Chain> {
  let ahead = lane === "compile" ? fedAhead(draft, lanes) : mostAirtimeFirst(draft);
  for (const chain of lane === "compile" ? draft.inTurn() : draft.queued(lane)) {
    if (ahead.length > 0) {
      const waiting: Chain[] = [];
      for (const one of ahead) {
        if (passes(one, chain, lane)) yield one;
        else waiting.push(one);
      }
      ahead = waiting;
    }
    yield chain;
  }
}

function passes(one: Chain, other: Chain, lane: Lane): boolean {
  const [job, otherJob] = [queuedJob(one, lane), queuedJob(other, lane)];
  if (job === undefined || otherJob === undefined) return false;
  return mayPass({ chain: one, job }, { chain: other, job: otherJob });
}
