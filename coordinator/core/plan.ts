/**
 * Which machine each queued build is meant for, so that all of them end at about the same time.
 *
 * 1. A build whose tree is at one machine is meant for that; then one whose tree is nowhere, longest first, for the machine that has least
 *    to do; then one whose tree is at several, for that of them: short ones level what the long ones have left uneven.
 * 2. Of the builds that are meant for it a machine takes them in the order of the queue, short ones first: that a long one waits at its
 *    machine delays nobody, and the end stays the same.
 * 3. The more urgent are planned as if there were no others: they do not wait for a machine that is kept busy by the rest.
 * 4. What has waited beyond its place in the queue (`order.ts`) is not planned: it takes the next slot.
 * 5. Where a scarce medium outlasts all builds (`scarce-media.ts`) nothing is planned: the end of the builds is not the end.
 */
import type { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { expectedBuildMs } from "#coordinator/core/durations.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import type { Draft } from "#coordinator/core/farm.ts";
import { rankOf } from "#coordinator/core/order.ts";
import { outlasting } from "#coordinator/core/scarce-media.ts";
import { isIdleLonger, type LaneState } from "#coordinator/core/slots.ts";
import { isWarmFor } from "#coordinator/core/warmth.ts";

/**
 * Builds times machines that are looked at: half a millisecond. A queue beyond that has no end that it could be divided for,
 * and goes shortest first to whoever is free.
 */
const looksMax = 1_024;

export type Plan = ReadonlyMap<ChainId, LaneState>;

export const noPlan: Plan = new Map();

interface Candidate {
  readonly chain: Chain;
  readonly rank: number;
  readonly eligible: readonly LaneState[];
  readonly warm: readonly LaneState[];
  readonly warmMs: number;
  readonly coldMs: number;
}

/** @param lanes compile lanes, full ones as well */
export function planBuilds(draft: Draft, lanes: readonly LaneState[], at: number): Plan {
  const open = lanes.filter(({ agent }) => agent.announcement.slots > 0);
  if (open.length < 2 || draft.queuedBuilds * open.length > looksMax) return noPlan;
  if (outlasting(draft, open).size > 0) return noPlan;
  const plan = new Planning(open);
  const candidates = candidatesOf(draft, open, at);
  for (const rank of new Set(candidates.map((one) => one.rank).sort((a, b) => a - b))) {
    plan.add(candidates.filter((one) => one.rank === rank));
  }
  return plan.plan;
}

/** Invariants 1 and 3. */
class Planning {
  readonly plan = new Map<ChainId, LaneState>();
  /** How long each machine is busy (ms). */
  readonly #loads: Map<LaneState, number>;

  constructor(lanes: readonly LaneState[]) {
    this.#loads = new Map(lanes.map((lane) => [lane, sum(lane.rests()) / slotCount(lane)]));
  }

  add(candidates: readonly Candidate[]): void {
    const withTrees = (least: number, most: number) =>
      candidates.filter(({ warm }) => warm.length >= least && warm.length <= most);
    for (const one of withTrees(1, 1)) this.#assign(one, this.#least(one.warm), one.warmMs);
    const inTurn = withTrees(0, 0).toSorted((a, b) => b.coldMs - a.coldMs);
    for (const one of inTurn) this.#assign(one, this.#least(one.eligible), one.coldMs);
    for (const one of withTrees(2, Infinity)) this.#assign(one, this.#least(one.warm), one.warmMs);
  }

  #assign({ chain }: Candidate, lane: LaneState | undefined, ms: number): void {
    if (lane === undefined) return;
    this.plan.set(chain.id, lane);
    this.#loads.set(lane, this.#loadOf(lane) + ms / slotCount(lane));
  }

  /** Among equals one that is free, then the one that has been idle longest. */
  #least(lanes: readonly LaneState[]): LaneState | undefined {
    return lanes.reduce<LaneState | undefined>((best, lane) => {
      if (best === undefined) return lane;
      const less = this.#loadOf(lane) - this.#loadOf(best);
      if (less !== 0) return less < 0 ? lane : best;
      if (lane.free > 0 !== best.free > 0) return lane.free > 0 ? lane : best;
      return isIdleLonger(lane, best) ? lane : best;
    }, undefined);
  }

  #loadOf(lane: LaneState): number {
    return this.#loads.get(lane) ?? 0;
  }
}

/** Builds that could begin now if a slot was free. */
function candidatesOf(draft: Draft, open: readonly LaneState[], at: number): readonly Candidate[] {
  const found: Candidate[] = [];
  const { knowledge } = draft;
  for (const chain of draft.inTurn()) {
    const { compile } = chain;
    if (compile?.state !== "queued" || (compile.notBeforeAt ?? 0) > at || draft.isOverdue(chain.id, at)) continue;
    const eligible = open.filter(({ agent }) => refusalOf(compile, agent, knowledge) === undefined);
    const warm = eligible.filter(({ agent }) => isWarmFor(chain, agent));
    const [warmMs, coldMs] = [expectedBuildMs(knowledge, chain, true), expectedBuildMs(knowledge, chain, false)];
    found.push({ chain, rank: rankOf(chain), eligible, warm, warmMs, coldMs });
  }
  return found;
}

function slotCount({ agent }: LaneState): number {
  return agent.announcement.slots;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
