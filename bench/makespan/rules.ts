/** The farm's own rule, and those that it is compared with. None of the others knows how long anything takes. */
import type { Chain } from "#protocol/chain.ts";
import type { Lane } from "#protocol/job.ts";
import type { chooseLane } from "#coordinator/core/choice.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import type { Draft } from "#coordinator/core/farm.ts";
import { type PlacementRule, placementRule } from "#coordinator/core/placement.ts";
import { type LaneState, oldestIdle } from "#coordinator/core/slots.ts";

type Pick = (free: readonly LaneState[], warm: readonly LaneState[]) => LaneState | undefined;

/** The oldest chain first. */
function fifo(draft: Draft, lane: Lane): readonly Chain[] {
  return [...draft.queued(lane)].toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

function ruleOf(pick: Pick): PlacementRule {
  const choose: typeof chooseLane = ({ knowledge, free, warm }, _chain, job) => {
    const able = free.filter(({ agent }) => refusalOf(job, agent, knowledge) === undefined);
    const lane = pick(
      able,
      able.filter((one) => warm.includes(one)),
    );
    return lane === undefined ? { kind: "none" } : { kind: "place", lane };
  };
  return { order: fifo, plan: () => new Map(), choose };
}

const firstByName: Pick = (free) =>
  free.toSorted((a, b) => (a.agent.announcement.agent < b.agent.announcement.agent ? -1 : 1))[0];

export const rules = {
  flashyard: placementRule,
  /** Whichever lane comes first. */
  fifo: ruleOf(firstByName),
  "oldest-idle": ruleOf(oldestIdle),
  "warm-first": ruleOf((free, warm) => oldestIdle(warm) ?? oldestIdle(free)),
} as const satisfies Record<string, PlacementRule>;

export type RuleName = keyof typeof rules;
export const ruleNames = Object.keys(rules) as readonly RuleName[];
