/** Which queued job goes to which idle lane, now. */
import type { Chain } from "#protocol/chain.ts";
import { configurationsOf } from "#protocol/chain.ts";
import type { AgentId, Configuration } from "#protocol/ids.ts";
import type { Job, Lane } from "#protocol/job.ts";
import { atomicRecordsMax } from "#protocol/limits.ts";
import { chooseLane } from "#coordinator/core/choice.ts";
import { deviceKeys, type Gate, gateOf, isGated, scarceSegment, takenIn } from "#coordinator/core/conflicts.ts";
import { equalInHand, sharedKey } from "#coordinator/core/equal-builds.ts";
import type { AgentState, Draft } from "#coordinator/core/farm.ts";
import { type Plan, planBuilds } from "#coordinator/core/plan.ts";
import { inOrder } from "#coordinator/core/queue.ts";
import { queuedJob } from "#coordinator/core/queued-job.ts";
import { expectedMsAt, freeOf, type LaneState, lanesOf, warmLanes } from "#coordinator/core/slots.ts";
import type { Step } from "#coordinator/core/step.ts";

/** The order of the queue and the choice of a lane; another one stands in for the farm's own in benchmarks. */
export interface PlacementRule {
  /** Chains with a queued job of the lane, the next one first; one may come twice. */
  readonly order: typeof inOrder;
  readonly plan: typeof planBuilds;
  readonly choose: typeof chooseLane;
}

export const placementRule: PlacementRule = { order: inOrder, plan: planBuilds, choose: chooseLane };

const noPlan: Plan = new Map();

/**
 * The agent that was taken for lost in the middle of a flash, is back, and says that it is still at it. The device is asked
 * when it has let go: asked now, it would name the old build and be flashed by somebody else at the same time.
 */
export function flasherOf(agents: readonly AgentState[], chain: Chain, job: Job): AgentId | undefined {
  if (job.lane !== "upload" || job.flashClaim === undefined) return undefined;
  const { attempt } = job.flashClaim;
  return agents.find(
    ({ announcement, vanishedAt }) =>
      vanishedAt === undefined &&
      announcement.holding.some((held) => held.chain === chain.id && held.job === "upload" && held.attempt === attempt),
  )?.announcement.agent;
}

interface Placed {
  readonly chain: Chain;
  readonly job: Job;
  readonly agent: AgentState;
}

/** Assigns queued jobs in the order of the queue, each to the lane that is best for it. */
export function place(step: Step, rule: PlacementRule = placementRule): void {
  const { draft } = step;
  if (!draft.agents().some((agent) => mayHaveRoom(draft, agent))) return;
  const taking = draft.taking();
  const lanes = lanesOf(step, taking);
  if (lanes.every(({ free }) => free <= 0)) return;
  const taken = takenIn(taking);
  const gate = gateOf(draft.cleaning());
  const placed = [
    ...placeBuilds(step, rule, lanes, gate, new Set(taken.trees)),
    ...placeUploads(step, rule, lanes, gate, new Set([...taken.devices, ...taken.segments])),
  ].sort((a, b) => (a.chain.id < b.chain.id ? -1 : 1));
  // A chain that has changed before may have freed the place of one that has not, so its record is written first.
  const changedBefore = new Set(draft.changedChains().keys());
  const others = placed.filter(({ chain }) => !changedBefore.has(chain.id));
  // What does not fit into the batch beside records that belong together is placed by the next step.
  const room = step.isAtomic ? atomicRecordsMax - changedBefore.size : others.length;
  for (const { chain, job, agent } of placed.filter(({ chain }) => changedBefore.has(chain.id)))
    dispatch(step, chain, job, agent);
  for (const { chain, job, agent } of others.slice(0, Math.max(0, room))) dispatch(step, chain, job, agent);
}

/** Cheap, and asked first: on a busy farm most steps have nothing to place. A chain has at most one job in an agent's hands. */
function mayHaveRoom(draft: Draft, { announcement, vanishedAt }: AgentState): boolean {
  const { agent, lane, slots, holding } = announcement;
  if (vanishedAt !== undefined || !draft.hasQueued(lane)) return false;
  const storing = holding.filter(({ isStoring }) => isStoring === true).length;
  return draft.inHandCount(agent) - Math.min(slots, storing) < slots;
}

function placeBuilds(
  step: Step,
  rule: PlacementRule,
  lanes: readonly LaneState[],
  gate: Gate,
  trees: Set<Configuration>,
): readonly Placed[] {
  const begun = new Set<string>();
  return placeLane(step, rule, lanes, "compile", (chain, job) => {
    const names = configurationsOf(chain);
    if (isGated(gate, chain, job) || names.some((name) => trees.has(name))) return undefined;
    const key = sharedKey(chain);
    if (key !== undefined && (begun.has(key) || equalInHand(step.draft, chain, key) !== undefined)) return undefined;
    return () => {
      // Cleans of one configuration on several agents are no obstacle to each other.
      if (job.name === "compile") for (const name of names) trees.add(name);
      if (key !== undefined) begun.add(key);
    };
  });
}

/** @param taken devices and scarce segments */
function placeUploads(
  step: Step,
  rule: PlacementRule,
  lanes: readonly LaneState[],
  gate: Gate,
  taken: Set<string>,
): readonly Placed[] {
  const agents = step.draft.agents();
  return placeLane(step, rule, lanes, "upload", (chain, job) => {
    if (job.lane !== "upload" || isGated(gate, chain, job)) return undefined;
    const { target } = job.spec;
    const devices = deviceKeys(target);
    const segment = scarceSegment(target);
    const isProbe = job.mode === "probe";
    if (segment !== undefined && taken.has(segment)) return undefined;
    // A probe has kept its device since its flash was lost.
    if (isProbe ? flasherOf(agents, chain, job) !== undefined : devices.some((device) => taken.has(device)))
      return undefined;
    return () => {
      for (const key of segment === undefined ? devices : [...devices, segment]) taken.add(key);
    };
  });
}

/** @param reserve undefined when something else keeps the job from running; otherwise what takes its tree or device. */
function placeLane(
  step: Step,
  rule: PlacementRule,
  all: readonly LaneState[],
  name: Lane,
  reserve: (chain: Chain, job: Job) => (() => void) | undefined,
): readonly Placed[] {
  const lanes = all.filter(({ agent }) => agent.announcement.lane === name);
  const placed: Placed[] = [];
  const { knowledge } = step.draft;
  let free = lanes.reduce((sum, lane) => sum + Math.max(0, lane.free), 0);
  if (free === 0 || !step.draft.hasQueued(name)) return placed;
  const seen = new Set<string>();
  const plan = name === "compile" ? rule.plan(step.draft, lanes, step.at) : noPlan;
  const warmFor = warmLanes(step.draft, lanes);
  const waiting: Chain[] = [];
  let open = freeOf(lanes);
  const consider = (chain: Chain, isLastWord: boolean) => {
    const job = queuedJob(chain, name);
    if (job === undefined || (job.notBeforeAt ?? 0) > step.at) return;
    const take = reserve(chain, job);
    if (take === undefined) return;
    const choice = rule.choose({ knowledge, free: open, warm: warmFor(chain), plan, isLastWord }, chain, job);
    if (choice.kind === "wait" && !isLastWord) waiting.push(chain);
    if (choice.kind !== "place") return;
    take();
    choice.lane.free -= 1;
    choice.lane.placed.push(expectedMsAt(knowledge, chain, job, choice.lane.agent));
    free -= 1;
    if (choice.lane.free === 0) open = freeOf(open);
    placed.push({ chain, job, agent: choice.lane.agent });
  };
  for (const chain of rule.order(step.draft, name, lanes)) {
    if (free === 0) return placed;
    if (!seen.has(chain.id)) consider(chain, false);
    seen.add(chain.id);
  }
  for (const lane of lanes) lane.owedMs = 0;
  for (const chain of waiting) if (free > 0) consider(chain, true);
  return placed;
}

function dispatch(step: Step, chain: Chain, job: Job, { announcement }: AgentState): void {
  const attempt = job.attempt + 1;
  step.change(chain.id, job.name, {
    state: "dispatched",
    attempt,
    assigned: { agent: announcement.agent, boot: announcement.boot },
    dispatchedAt: step.at,
    notBeforeAt: undefined,
  });
  step.effects.push({ kind: "dispatch", agent: announcement.agent, chain: chain.id, job: job.name, attempt });
}
