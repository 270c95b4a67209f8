/** Which queued job goes to which idle lane, now. */
import type { Chain } from "#protocol/chain.ts";
import { configurationsOf } from "#protocol/chain.ts";
import type { AgentId, Configuration } from "#protocol/ids.ts";
import type { Job, Lane } from "#protocol/job.ts";
import { atomicRecordsMax } from "#protocol/limits.ts";
import { blockedBuilder } from "#coordinator/core/blocked-builds.ts";
import { chooseLane } from "#coordinator/core/choice.ts";
import { deviceKeys, gateOf, isGated, scarceSegment, takenIn } from "#coordinator/core/conflicts.ts";
import { equalInHand, sharedKey } from "#coordinator/core/equal-builds.ts";
import type { AgentState, Draft } from "#coordinator/core/farm.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { noPlan, planBuilds } from "#coordinator/core/plan.ts";
import { inOrder } from "#coordinator/core/queue.ts";
import { queuedJob } from "#coordinator/core/queued-job.ts";
import { expectedMsAt, freeOf, freeSlots, lanesOf, warmLanes } from "#coordinator/core/slots.ts";
import type { Step } from "#coordinator/core/step.ts";
import { isWithin } from "#coordinator/core/timing.ts";
import { heldBack } from "#coordinator/core/waves.ts";

/** The order of the queue and the choice of a lane; another one stands in for the farm's own in benchmarks. */
export interface PlacementRule {
  /** Chains with a queued job of the lane, the next one first; one may come twice. */
  readonly order: typeof inOrder;
  readonly plan: typeof planBuilds;
  readonly choose: typeof chooseLane;
}

export const placementRule: PlacementRule = { order: inOrder, plan: planBuilds, choose: chooseLane };

/**
 * The agent that was taken for lost in the middle of a flash, is back, and says that it is still at it. The device is asked
 * when it has let go: asked now, it would name the old build and be flashed by somebody else at the same time.
 */
export function flasherOf(agents: readonly AgentState[], chain: Chain, job: Job): AgentId | undefined {
  if (job.name !== "upload" || job.flashClaim === undefined) return undefined;
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
  const builds = hasRoom(draft, "compile") ? placeBuilds(step, rule) : [];
  const uploads = hasRoom(draft, "upload") ? placeUploads(step, rule) : [];
  const placed = [...builds, ...uploads].sort((a, b) => (a.chain.id < b.chain.id ? -1 : 1));
  // A chain that has changed before may have freed the place of one that has not, so its record is written first.
  const changedBefore = new Set(draft.changedChains().keys());
  const others = placed.filter(({ chain }) => !changedBefore.has(chain.id));
  // What does not fit into the batch beside records that belong together is placed by the next step.
  const room = step.isAtomic ? atomicRecordsMax - changedBefore.size : others.length;
  for (const { chain, job, agent } of placed.filter(({ chain }) => changedBefore.has(chain.id)))
    dispatch(step, chain, job, agent);
  for (const { chain, job, agent } of others.slice(0, Math.max(0, room))) dispatch(step, chain, job, agent);
}

/** Asked first: on a busy farm most steps have nothing to place. */
function hasRoom(draft: Draft, name: Lane): boolean {
  return (
    draft.hasQueued(name) &&
    draft
      .agents()
      .some(
        (agent) => agent.announcement.lane === name && agent.vanishedAt === undefined && freeSlots(draft, agent) > 0,
      )
  );
}

function placeBuilds(step: Step, rule: PlacementRule): readonly Placed[] {
  const { draft } = step;
  const gate = gateOf(draft.cleaning());
  const [trees, begun] = [new Set<Configuration>(), new Set<string>()];
  const isTaken = (name: Configuration) =>
    trees.has(name) || draft.chainsOf(name).some(({ compile }) => isInHand(compile?.state));
  return placeLane(step, rule, "compile", (chain, job) => {
    const names = configurationsOf(chain);
    if (isGated(gate, chain, job) || names.some(isTaken)) return undefined;
    const key = sharedKey(chain);
    if (key !== undefined && (begun.has(key) || equalInHand(draft, chain, key) !== undefined)) return undefined;
    return () => {
      // Cleans of one configuration on several agents are no obstacle to each other.
      if (job.name === "compile") for (const name of names) trees.add(name);
      if (key !== undefined) begun.add(key);
    };
  });
}

/** Whether a flash waits for something else than a slot: its part of the day, its rollout, or that a person trusts its builder again. */
export function isKeptBack({ draft, at }: Step, chain: Chain): boolean {
  const window = chain.upload?.spec.timing?.window;
  if (window !== undefined && !isWithin(window, at)) return true;
  if (blockedBuilder(chain, draft.knowledge.blocked) !== undefined) return true;
  return heldBack(chain, draft.standingOf(chain)) !== undefined;
}

function placeUploads(step: Step, rule: PlacementRule): readonly Placed[] {
  const { draft } = step;
  const agents = draft.agents();
  const gate = gateOf(draft.cleaning());
  const { devices: takenDevices, segments: takenSegments } = takenIn(draft.taking());
  const taken = new Set([...takenDevices, ...takenSegments]);
  return placeLane(step, rule, "upload", (chain, job) => {
    const { upload } = chain;
    if (upload === undefined || isGated(gate, chain, job)) return undefined;
    const { target } = upload.spec;
    const devices = deviceKeys(target);
    if (job.name === "confirm") {
      // Nothing is sent, so that no medium is taken; but while another image goes there, the device has nothing to say.
      if (devices.some((device) => taken.has(device))) return undefined;
      return () => {
        for (const key of devices) taken.add(key);
      };
    }
    const segment = scarceSegment(target);
    const isProbe = upload.mode === "probe";
    if (!isProbe && isKeptBack(step, chain)) return undefined;
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
  name: Lane,
  reserve: (chain: Chain, job: Job) => (() => void) | undefined,
): readonly Placed[] {
  const lanes = lanesOf(step, name);
  const placed: Placed[] = [];
  const { knowledge } = step.draft;
  let free = lanes.reduce((sum, lane) => sum + Math.max(0, lane.free), 0);
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
  for (const chain of rule.order(step.draft, name, lanes, step.at)) {
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
