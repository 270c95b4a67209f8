/** Which queued job goes to which idle lane. Pure, and able to explain itself. */
import type { Chain } from "#protocol/chain.ts";
import { jobsOf } from "#protocol/chain.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Job, Lane } from "#protocol/job.ts";
import { deviceKey, isInHand, takenIn } from "#coordinator/core/conflicts.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
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
  if (job.lane === "upload" && job.spec.on !== undefined && job.spec.on !== announcement.agent) {
    return `the job is for ${job.spec.on}`;
  }
  if (job.avoid.includes(announcement.agent)) return "failed here in an earlier attempt";
  if (job.lane === "compile" && job.spec.driver === "esphome") {
    const can = announcement.compile;
    if (can?.makesEnvironments !== true && can?.esphomeVersions.includes(job.spec.version) !== true) {
      return `has no ESPHome ${job.spec.version} and makes no environments`;
    }
  }
  return undefined;
}

/** Jobs in the records' hands per agent, and when one of its slots was last freed. */
export function loadOf(chains: readonly Chain[]): ReadonlyMap<AgentId, { busy: number; freedAt: number }> {
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

/** Assigns queued jobs, oldest chain first, each to the eligible lane that has been idle longest. */
export function place(step: Step): void {
  const chains = step.draft.chains();
  const waiting = chains.flatMap((chain) =>
    jobsOf(chain)
      .filter((job) => job.state === "queued" && (job.notBeforeAt ?? 0) <= step.at)
      .map((job) => ({ chain, job })),
  );
  if (waiting.length === 0) return;
  const load = loadOf(chains);
  const lanes = step.draft
    .agents()
    .map((agent): LaneState => {
      const { busy, freedAt } = load.get(agent.announcement.agent) ?? { busy: 0, freedAt: 0 };
      const idleSince = Math.max(agent.announcement.idleSince ?? step.at, freedAt);
      return { agent, free: agent.vanishedAt === undefined ? agent.announcement.slots - busy : 0, idleSince };
    })
    .filter((lane) => lane.free > 0);
  const free: Record<Lane, number> = { compile: 0, upload: 0 };
  for (const lane of lanes) free[lane.agent.announcement.lane] += lane.free;
  const taken = takenIn(chains);
  const devices = new Set(taken.devices);
  const trees = new Set(taken.trees);
  const placed: { chain: Chain; job: Job; agent: AgentState }[] = [];
  for (const { chain, job } of waiting) {
    if (free[job.lane] === 0) continue;
    const isProbe = job.lane === "upload" && job.mode === "probe";
    const conflict =
      job.lane === "compile" ? trees.has(chain.configuration) : !isProbe && devices.has(deviceKey(job.spec.target));
    if (conflict || (isProbe && flasherOf(step.draft.agents(), chain, job) !== undefined)) continue;
    const lane = oldestIdle(lanes.filter((lane) => lane.free > 0 && refusalOf(job, lane.agent) === undefined));
    if (lane === undefined) continue;
    lane.free -= 1;
    free[job.lane] -= 1;
    if (job.lane === "compile") trees.add(chain.configuration);
    else devices.add(deviceKey(job.spec.target));
    placed.push({ chain, job, agent: lane.agent });
  }
  // A chain that has changed before may have freed the place of one that has not, so its record is written first.
  const changedBefore = new Set(step.draft.changedChains().keys());
  for (const { chain, job, agent } of placed.filter(({ chain }) => changedBefore.has(chain.id)))
    dispatch(step, chain, job, agent);
  for (const { chain, job, agent } of placed.filter(({ chain }) => !changedBefore.has(chain.id)))
    dispatch(step, chain, job, agent);
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
