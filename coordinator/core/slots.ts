/** Which lanes have room, and when a full one will. */
import type { Chain } from "#protocol/chain.ts";
import { jobsOf } from "#protocol/chain.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Job, Lane } from "#protocol/job.ts";
import { expectedBuildMs, expectedUploadMs } from "#coordinator/core/durations.ts";
import type { AgentState, Draft } from "#coordinator/core/farm.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";
import type { Step } from "#coordinator/core/step.ts";
import { isWarmFor } from "#coordinator/core/warmth.ts";

/** An agent's lane as placement sees it; `free` counts the slots that no record has assigned. */
export interface LaneState {
  readonly agent: AgentState;
  free: number;
  /** Since when it idles; a slot that the records have just freed counts from that instant. */
  idleSince: number;
  /** How much longer each of its jobs takes, as far as one can tell (ms). */
  readonly rests: () => readonly number[];
  /** The same of those that this step has placed here. */
  readonly placed: number[];
  /** Builds that this step lets wait for it, one after the other (ms). */
  owedMs: number;
}

/** Until one of its slots is free (ms), as far as one can tell; 0 while one is. */
export function freeInMs({ free, rests, placed }: LaneState): number {
  if (free > 0) return 0;
  const all = [...rests(), ...placed];
  return all.length === 0 ? 0 : Math.min(...all);
}

interface Load {
  busy: number;
  /** Jobs that have given their slots back; as many as there are slots do not count as busy. */
  storing: number;
  freedAt: number;
}

type AgentOf = (agent: AgentId) => AgentState | undefined;

/** Jobs in the records' hands per agent, and when one of its slots was last freed. */
export function loadOf(chains: Iterable<Chain>, agentOf: AgentOf): ReadonlyMap<AgentId, Readonly<Load>> {
  const load = new Map<AgentId, Load>();
  for (const chain of chains) {
    for (const job of jobsOf(chain)) {
      if (job.assigned === undefined) continue;
      const { agent } = job.assigned;
      const entry = load.get(agent) ?? { busy: 0, storing: 0, freedAt: 0 };
      load.set(agent, entry);
      const state = agentOf(agent);
      if (!isInHand(job.state)) entry.freedAt = Math.max(entry.freedAt, job.endedAt ?? 0);
      else if (state !== undefined && isStoring(state, chain, job) && entry.storing < state.announcement.slots)
        entry.storing += 1;
      else entry.busy += 1;
    }
  }
  return load;
}

/** Whether the agent says that this attempt needs its slot no more. */
function isStoring({ announcement, vanishedAt }: AgentState, chain: Chain, job: Job): boolean {
  if (vanishedAt !== undefined) return false;
  const { attempt } = job;
  return announcement.holding.some(
    (held) => held.isStoring === true && held.chain === chain.id && held.job === job.name && held.attempt === attempt,
  );
}

/** Slots of an agent that no record has assigned. */
export function freeSlots(draft: Draft, { announcement }: AgentState): number {
  const { agent, slots, holding } = announcement;
  // Counting is enough unless one of them has given its slot back: a chain has at most one job in an agent's hands.
  if (!holding.some((held) => held.isStoring === true)) return slots - draft.inHandCount(agent);
  return slots - (loadOf(draft.inHandOf(agent), (id) => draft.agent(id)).get(agent)?.busy ?? 0);
}

/** The lane of every agent that is here and works it, also full ones. */
export function lanesOf({ draft, at }: Step, name: Lane): readonly LaneState[] {
  const present = draft
    .agents()
    .filter(({ announcement, vanishedAt }) => announcement.lane === name && vanishedAt === undefined);
  const lanes = present.map((agent): LaneState => {
    const { agent: id, idleSince } = agent.announcement;
    let kept: readonly number[] | undefined;
    const rests = () => (kept ??= restsIn(draft.knowledge, draft.inHandOf(id), agent, at));
    return { agent, free: freeSlots(draft, agent), idleSince: idleSince ?? at, rests, placed: [], owedMs: 0 };
  });
  if (freeOf(lanes).length < 2) return lanes;
  const freed = loadOf(draft.freeing(), (id) => draft.agent(id));
  for (const lane of lanes) {
    lane.idleSince = Math.max(lane.idleSince, freed.get(lane.agent.announcement.agent)?.freedAt ?? 0);
  }
  return lanes;
}

export function freeOf(lanes: readonly LaneState[]): readonly LaneState[] {
  return lanes.filter(({ free }) => free > 0);
}

/** Finds the lanes that have the tree of a chain. */
export function warmLanes(draft: Draft, lanes: readonly LaneState[]): (chain: Chain) => readonly LaneState[] {
  const laneOf = new Map(lanes.map((lane) => [lane.agent.announcement.agent, lane]));
  return (chain) => [...draft.ownersOf(chain)].flatMap((agent) => laneOf.get(agent) ?? []);
}

export function slotsOf(lanes: readonly LaneState[]): number {
  return lanes.reduce((sum, { agent }) => sum + agent.announcement.slots, 0);
}

/** How much longer the jobs take that occupy slots of one agent. */
export function restsIn(
  knowledge: Knowledge,
  chains: readonly Chain[],
  agent: AgentState,
  at: number,
): readonly number[] {
  return chains.flatMap((chain) =>
    jobsOf(chain)
      .filter((job) => occupies(agent, chain, job))
      .map((job) => restMs(knowledge, chain, job, agent, at)),
  );
}

function occupies(agent: AgentState, chain: Chain, job: Job): boolean {
  return job.assigned?.agent === agent.announcement.agent && isInHand(job.state) && !isStoring(agent, chain, job);
}

/** One that is overdue is taken to need as long again as it is late: whoever waits for it gives up in time. */
function restMs(knowledge: Knowledge, chain: Chain, job: Job, agent: AgentState, at: number): number {
  return Math.abs(expectedMsAt(knowledge, chain, job, agent) - (at - (job.startedAt ?? job.dispatchedAt ?? at)));
}

/** How long a job takes on an agent. */
export function expectedMsAt(knowledge: Knowledge, chain: Chain, job: Job, agent: AgentState): number {
  if (job.name === "compile") return expectedBuildMs(knowledge, chain, isWarmFor(chain, agent));
  return job.name === "upload" ? expectedUploadMs(knowledge, chain) : 0;
}

/** The lane that has been idle longest; among equals the agent's name decides. */
export function oldestIdle(lanes: readonly LaneState[]): LaneState | undefined {
  return lanes.reduce<LaneState | undefined>(
    (best, lane) => (best === undefined || isIdleLonger(lane, best) ? lane : best),
    undefined,
  );
}

export function isIdleLonger(one: LaneState, other: LaneState): boolean {
  if (one.idleSince !== other.idleSince) return one.idleSince < other.idleSince;
  return one.agent.announcement.agent < other.agent.announcement.agent;
}
