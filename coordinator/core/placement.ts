/** Which queued job goes to which idle lane. Pure, and able to explain itself. */
import type { Chain } from "#protocol/chain.ts";
import { configurationsOf, jobsOf } from "#protocol/chain.ts";
import type { AgentId, Configuration } from "#protocol/ids.ts";
import type { Job, Lane } from "#protocol/job.ts";
import { atomicRecordsMax } from "#protocol/limits.ts";
import { deviceKeys, type Gate, gateOf, isGated, takenIn } from "#coordinator/core/conflicts.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import type { Step } from "#coordinator/core/step.ts";

/** An agent's lane as placement sees it; `free` counts the slots that no record has assigned. */
interface LaneState {
  readonly agent: AgentState;
  free: number;
  /** Since when it idles; a slot that the records have just freed counts from that instant. */
  idleSince: number;
}

/** Why an agent cannot have a job, or undefined when it can. */
export function refusalOf(job: Job, { announcement, vanishedAt }: AgentState): string | undefined {
  if (announcement.lane !== job.lane) return `works the ${announcement.lane} lane`;
  if (vanishedAt !== undefined) return "is away";
  if (job.name !== "compile" && job.spec.on !== undefined && job.spec.on !== announcement.agent) {
    return `the job is for ${job.spec.on}`;
  }
  if (job.avoid.includes(announcement.agent)) return "failed here in an earlier attempt";
  if (job.name === "compile" && job.spec.driver === "esphome") {
    const can = announcement.compile;
    if (can?.makesEnvironments !== true && can?.esphomeVersions.includes(job.spec.version) !== true) {
      return `has no ESPHome ${job.spec.version} and makes no environments`;
    }
  }
  return undefined;
}

/** Jobs in the records' hands per agent, and when one of its slots was last freed. */
export function loadOf(chains: Iterable<Chain>): ReadonlyMap<AgentId, { busy: number; freedAt: number }> {
  const load = new Map<AgentId, { busy: number; freedAt: number }>();
  for (const chain of chains) {
    for (const job of jobsOf(chain)) {
      if (job.assigned === undefined) continue;
      const entry = load.get(job.assigned.agent) ?? { busy: 0, freedAt: 0 };
      if (isInHand(job.state)) entry.busy += 1;
      else entry.freedAt = Math.max(entry.freedAt, job.endedAt ?? 0);
      load.set(job.assigned.agent, entry);
    }
  }
  return load;
}

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

/** Assigns queued jobs, oldest chain first, each to an eligible lane: where its tree is warm, else that which has been idle longest. */
export function place(step: Step): void {
  const { draft } = step;
  if (!draft.hasQueued("compile") && !draft.hasQueued("upload")) return;
  const taking = draft.taking();
  const lanes = freeLanes(step, taking);
  if (lanes.length === 0) return;
  const taken = takenIn(taking);
  const gate = gateOf(draft.cleaning());
  const placed = [
    ...placeBuilds(step, lanes, gate, new Set(taken.trees)),
    ...placeUploads(step, lanes, gate, new Set(taken.devices)),
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

function freeLanes({ draft, at }: Step, taking: readonly Chain[]): readonly LaneState[] {
  const load = loadOf(taking);
  const lanes = draft
    .agents()
    .map((agent): LaneState => {
      const busy = load.get(agent.announcement.agent)?.busy ?? 0;
      const free = agent.vanishedAt === undefined ? agent.announcement.slots - busy : 0;
      return { agent, free, idleSince: agent.announcement.idleSince ?? at };
    })
    .filter((lane) => lane.free > 0);
  if (lanes.length < 2) return lanes;
  const freed = loadOf(draft.freeing());
  for (const lane of lanes) {
    lane.idleSince = Math.max(lane.idleSince, freed.get(lane.agent.announcement.agent)?.freedAt ?? 0);
  }
  return lanes;
}

function placeBuilds(
  step: Step,
  lanes: readonly LaneState[],
  gate: Gate,
  trees: Set<Configuration>,
): readonly Placed[] {
  return placeLane(step, lanes, "compile", (chain, job) => {
    const names = configurationsOf(chain);
    if (isGated(gate, chain, job) || names.some((name) => trees.has(name))) return undefined;
    return () => {
      // Cleans of one configuration on several agents are no obstacle to each other.
      if (job.name === "compile") for (const name of names) trees.add(name);
    };
  });
}

function placeUploads(step: Step, lanes: readonly LaneState[], gate: Gate, devices: Set<string>): readonly Placed[] {
  const agents = step.draft.agents();
  return placeLane(step, lanes, "upload", (chain, job) => {
    if (job.lane !== "upload" || isGated(gate, chain, job)) return undefined;
    const keys = deviceKeys(job.spec.target);
    const isBlocked =
      job.mode === "probe" ? flasherOf(agents, chain, job) !== undefined : keys.some((key) => devices.has(key));
    if (isBlocked) return undefined;
    return () => {
      for (const key of keys) devices.add(key);
    };
  });
}

/** @param reserve undefined when something else keeps the job from running; otherwise what takes its tree or device. */
function placeLane(
  step: Step,
  all: readonly LaneState[],
  name: Lane,
  reserve: (chain: Chain, job: Job) => (() => void) | undefined,
): readonly Placed[] {
  const lanes = all.filter(({ agent }) => agent.announcement.lane === name);
  const placed: Placed[] = [];
  let free = lanes.reduce((sum, lane) => sum + lane.free, 0);
  if (free === 0) return placed;
  const agents = step.draft.agents();
  for (const chain of step.draft.queued(name)) {
    const job = jobsOf(chain).find((one) => one.lane === name && one.state === "queued");
    if (job === undefined || (job.notBeforeAt ?? 0) > step.at) continue;
    const take = reserve(chain, job);
    if (take === undefined) continue;
    const eligible = lanes.filter((lane) => lane.free > 0 && refusalOf(job, lane.agent) === undefined);
    const warm = oldestIdle(eligible.filter(({ agent }) => isWarmFor(chain, job, agent)));
    if (warm === undefined && waitsForWarm(agents, chain, job, step.at) !== undefined) continue;
    const lane = warm ?? oldestIdle(eligible);
    if (lane === undefined) continue;
    take();
    lane.free -= 1;
    free -= 1;
    placed.push({ chain, job, agent: lane.agent });
    if (free === 0) break;
  }
  return placed;
}

/**
 * How long a build waits for a busy agent whose tree is warm: a cold build of the smallest ESPHome configuration takes 10 to
 * 20 s on two cores, a warm one 1 s (measured 2026-11). Longer lets others idle; shorter spreads cold trees over the farm.
 */
const warmWaitMs = 20_000;

/** The busy agent that a queued build waits for because it has its tree, instead of starting cold elsewhere. */
export function waitsForWarm(agents: readonly AgentState[], chain: Chain, job: Job, at: number): AgentId | undefined {
  if (at - (job.queuedAt ?? 0) >= warmWaitMs) return undefined;
  return agents.find(
    (agent) => isWarmFor(chain, job, agent) && agent.announcement.slots > 0 && refusalOf(job, agent) === undefined,
  )?.announcement.agent;
}

type WarmTrees = NonNullable<AgentState["announcement"]["compile"]>["warm"];
const treeKeys = new WeakMap<WarmTrees, ReadonlySet<string>>();

/** There an unchanged configuration gives the very image that its device runs, and a changed one is built in seconds. */
function isWarmFor({ configuration }: Chain, job: Job, { announcement }: AgentState): boolean {
  if (job.name !== "compile" || job.spec.driver !== "esphome") return false;
  const trees = announcement.compile?.warm ?? [];
  let keys = treeKeys.get(trees);
  if (keys === undefined) {
    keys = new Set(trees.map((tree) => `${tree.version} ${tree.configuration}`));
    treeKeys.set(trees, keys);
  }
  return keys.has(`${job.spec.version} ${configuration}`);
}

function oldestIdle(lanes: readonly LaneState[]): LaneState | undefined {
  return lanes.reduce<LaneState | undefined>((best, lane) => {
    if (best === undefined || lane.idleSince < best.idleSince) return lane;
    const isTie = lane.idleSince === best.idleSince;
    return isTie && lane.agent.announcement.agent < best.agent.announcement.agent ? lane : best;
  }, undefined);
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
