/**
 * Where a job goes that is next.
 *
 * 1. To a free lane that is eligible: the one that has been idle longest; of uploads, before others, to one that reaches the device.
 * 2. A build goes to the machine that it is meant for (`plan.ts`), else to one that has its tree; or it waits for that.
 * 3. What waits leaves the slots to the next in the queue. When nobody has wanted one, the last word is asked for: a build whose tree
 *    is nowhere takes it, one whose tree is somewhere if it is done there sooner, cold, than by waiting.
 * 4. What waits for an agent is counted, so that the next one sees how long the line is.
 */
import type { Chain } from "#protocol/chain.ts";
import type { Job } from "#protocol/job.ts";
import { expectedBuildMs } from "#coordinator/core/durations.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";
import type { Plan } from "#coordinator/core/plan.ts";
import { freeInMs, type LaneState, oldestIdle } from "#coordinator/core/slots.ts";

/** What is to be done with a job: `wait` for an agent, or nothing while no eligible lane is free. */
export type Choice =
  | { readonly kind: "place"; readonly lane: LaneState }
  | { readonly kind: "wait"; readonly for: AgentState }
  | { readonly kind: "none" };

/** What a choice is made from. */
export interface Options {
  readonly knowledge: Knowledge;
  /** Lanes of the job's kind that have room. */
  readonly free: readonly LaneState[];
  /** Lanes that have its tree, full ones as well. */
  readonly warm: readonly LaneState[];
  readonly plan: Plan;
  /** Whether all others in the queue have been asked before. */
  readonly isLastWord: boolean;
}

export function chooseLane({ knowledge, plan, isLastWord, ...lanes }: Options, chain: Chain, job: Job): Choice {
  const fits = ({ agent }: LaneState) => refusalOf(job, agent, knowledge) === undefined;
  const free = lanes.free.filter(fits);
  const idle = oldestIdle(free);
  if (idle === undefined) return { kind: "none" };
  if (job.name !== "compile")
    return { kind: "place", lane: oldestIdle(free.filter(reaching(knowledge, chain))) ?? idle };
  const meant = isLastWord ? undefined : plan.get(chain.id);
  if (meant !== undefined) return meant.free > 0 ? { kind: "place", lane: meant } : { kind: "wait", for: meant.agent };
  const warm = lanes.warm.filter(fits);
  const here = oldestIdle(free.filter((lane) => warm.includes(lane)));
  if (here !== undefined) return { kind: "place", lane: here };
  const line = shortestLine(warm);
  if (line === undefined) return { kind: "place", lane: idle };
  const warmMs = expectedBuildMs(knowledge, chain, true);
  if (isLastWord && lineMs(line) + warmMs >= expectedBuildMs(knowledge, chain, false))
    return { kind: "place", lane: idle };
  line.owedMs += warmMs;
  return { kind: "wait", for: line.agent };
}

/** Finds the agents that are known to reach a chain's device: the one that has just flashed it, or did so last, or hears it. */
function reaching({ devices, reach }: Knowledge, { configuration, upload }: Chain): (lane: LaneState) => boolean {
  const flasher = upload?.assigned?.agent ?? devices.get(configuration)?.agent;
  const hears = reach.get(upload?.spec.target.name ?? "");
  return ({ agent: { announcement } }) => announcement.agent === flasher || hears?.has(announcement.agent) === true;
}

/** How long the next one would wait for a lane (ms). */
function lineMs(lane: LaneState): number {
  return freeInMs(lane) + lane.owedMs / lane.agent.announcement.slots;
}

/** Of those that take work at all; among equals the first. */
function shortestLine(lanes: readonly LaneState[]): LaneState | undefined {
  let best: LaneState | undefined;
  let bestMs = Infinity;
  for (const lane of lanes) {
    const ms = lane.agent.announcement.slots > 0 ? lineMs(lane) : Infinity;
    if (ms >= bestMs) continue;
    bestMs = ms;
    best = lane;
  }
  return best;
}
