/**
 * In which order the jobs of a lane are looked at: that of their keys, except for what goes ahead and what goes behind
 * (`order.ts`, invariant 3).
 */
import type { Chain } from "#protocol/chain.ts";
import type { Lane } from "#protocol/job.ts";
import type { Draft } from "#coordinator/core/farm.ts";
import { mayPass, rankOf } from "#coordinator/core/order.ts";
import { queuedJob } from "#coordinator/core/queued-job.ts";
import { fedAhead, goesBehind, mostAirtimeFirst } from "#coordinator/core/scarce-media.ts";
import type { LaneState } from "#coordinator/core/slots.ts";

/** @param lanes of this kind; one chain may come twice */
export function inOrder(draft: Draft, lane: Lane, lanes: readonly LaneState[], at: number): Iterable<Chain> {
  if (lane === "upload") return withAhead(mostAirtimeFirst(draft), draft.queued(lane), lane);
  const fed = fedAhead(draft, lanes, at);
  return withAhead(fed, withBehind(draft.inTurn(), goesBehind(draft, lanes, fed)), lane);
}

function* withAhead(first: readonly Chain[], chains: Iterable<Chain>, lane: Lane): Iterable<Chain> {
  let ahead = first;
  for (const chain of chains) {
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

/** What goes behind is of one urgency at a time, and its first was there first: looking at that one is enough. */
function* withBehind(chains: Iterable<Chain>, isBehind: (chain: Chain) => boolean): Iterable<Chain> {
  const behind: Chain[] = [];
  for (const chain of chains) {
    while (behind[0] !== undefined && !passes(chain, behind[0], "compile")) yield* behind.splice(0, 1);
    const [first = chain] = behind;
    if (isBehind(chain) && rankOf(chain) === rankOf(first)) behind.push(chain);
    else yield chain;
  }
  yield* behind;
}

function passes(one: Chain, other: Chain, lane: Lane): boolean {
  const [job, otherJob] = [queuedJob(one, lane), queuedJob(other, lane)];
  if (job === undefined || otherJob === undefined) return false;
  return mayPass({ chain: one, job }, { chain: other, job: otherJob });
}
