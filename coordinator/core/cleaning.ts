/**
 * Taking build trees away: those of one configuration (`clean`) or all (`reset`); a chain for each agent that has some.
 *
 * 1. A clean is held until everything that may still write to its trees is proven dead. For a reset that is all work of the
 *    farm, on both lanes; for a clean the builds of its configuration on its agent.
 * 2. Where a death is not proven within `deathMsMax` the clean fails, and no tree is touched. A flash past its claim is no such
 *    death: it is waited for, and so is one that was lost and waits for its device's word.
 * 3. A clean belongs to its agent. It is lost with it, never tried elsewhere, and never waits for an agent that is away.
 * 4. The gate (`conflicts.ts`) opens with the end of the last clean, however that ended: nothing but the records says that it is
 *    closed, so a restart cannot leave it so.
 */
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import {
  type AgentId,
  BootId,
  type ChainId,
  type Configuration,
  everyConfiguration,
  jobRef,
  siblingIds,
} from "#protocol/ids.ts";
import type { CancelCause, Job } from "#protocol/job.ts";
import { atomicRecordsMax, deathMsMax } from "#protocol/limits.ts";
import type { Failure } from "#protocol/failure.ts";
import { cancelChain, isPastNoReturn } from "#coordinator/core/cancel.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import { isInHand, takesDevice } from "#coordinator/core/in-hand.ts";
import { miss } from "#coordinator/core/leases.ts";
import type { Step } from "#coordinator/core/step.ts";

/** The gate stays closed for so long when an agent goes away in the middle of a clean; a process that is replaced is back sooner. */
const awayMsMax = 10_000;
const neverHeard = BootId.parse("neverheard");

/** What was asked for, as the answer says it. */
export interface CleanStart {
  readonly chains: readonly ChainId[];
  readonly superseded: readonly ChainId[];
  readonly away: readonly AgentId[];
}

/** Cancels the chains of the configuration, and starts a clean on every agent that has, or may be making, a tree of it. */
export function startClean(step: Step, { id, configuration }: Extract<FarmEvent, { kind: "clean-asked" }>): CleanStart {
  const started = startedBefore(step, id);
  if (started !== undefined) return { chains: started, superseded: [], away: [] };
  const chains = step.draft.chainsOf(configuration);
  const building = new Set(
    chains.flatMap(({ compile }) => (isInHand(compile?.state) ? (compile?.assigned?.agent ?? []) : [])),
  );
  const owners = compileAgents(step).filter((agent) => hasTree(agent, configuration) || building.has(nameOf(agent)));
  return start(step, id, { kind: "clean", configuration, chains, owners });
}

/** Cancels everything, and starts a clean of all trees on every agent that builds; undefined when no such agent is there. */
export function startReset(step: Step, { id }: Extract<FarmEvent, { kind: "reset-asked" }>): CleanStart | undefined {
  const started = startedBefore(step, id);
  if (started !== undefined) return { chains: started, superseded: [], away: [] };
  const owners = compileAgents(step);
  if (!owners.some(isHere)) return undefined;
  return start(step, id, { kind: "reset", configuration: everyConfiguration, chains: step.draft.chains(), owners });
}

interface Scope {
  readonly kind: "clean" | "reset";
  readonly configuration: Configuration;
  /** Live chains that give way. */
  readonly chains: readonly Chain[];
  readonly owners: readonly AgentState[];
}

function start(step: Step, id: ChainId, { kind, configuration, chains, owners }: Scope): CleanStart {
  const cause: CancelCause = kind;
  // Before the cleans: where only some of the records are written, no clean stands beside work that was not told to end.
  const superseded = chains.filter((chain) => cancelChain(step, chain, cause).jobs.length > 0).map((chain) => chain.id);
  const here = owners.filter(isHere);
  const ids = siblingIds(id, here.length);
  for (const [index, agent] of here.entries()) {
    const trees = kind === "reset" ? "all" : "configuration";
    step.draft.setChain({
      v: 2,
      id: ids[index] ?? id,
      kind,
      configuration,
      createdAt: step.at,
      clean: {
        lane: "compile",
        name: "clean",
        spec: { on: nameOf(agent), trees },
        state: "held",
        attempt: 0,
        avoid: [],
        earlier: [],
      },
    });
  }
  step.isAtomic ||= step.draft.changedChains().size <= atomicRecordsMax;
  return { chains: ids, superseded, away: owners.filter((agent) => !isHere(agent)).map(nameOf) };
}

/** The chains that the same request has made already; undefined when it is new. */
function startedBefore(step: Step, id: ChainId): readonly ChainId[] | undefined {
  if (step.draft.chain(id) === undefined) return undefined;
  const ids = siblingIds(id, step.draft.agents().length);
  return ids.filter((sibling) => step.draft.chain(sibling)?.clean !== undefined);
}

function compileAgents(step: Step): readonly AgentState[] {
  return step.draft
    .agents()
    .filter(({ announcement }) => announcement.lane === "compile")
    .toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
}

function nameOf({ announcement }: AgentState): AgentId {
  return announcement.agent;
}

/** An agent without slots is shutting down. */
function isHere({ vanishedAt, announcement }: AgentState): boolean {
  return vanishedAt === undefined && announcement.slots > 0;
}

function hasTree({ announcement }: AgentState, configuration: Configuration): boolean {
  return announcement.compile?.warm.some((tree) => tree.configuration === configuration) === true;
}

/** Releases the cleans whose trees nobody writes to any more, and ends those that cannot go on. Part of every step. */
export function settleCleans(step: Step): void {
  for (const chain of step.draft.cleaning()) {
    const { clean } = chain;
    if (clean?.state === "held") settleHeldClean(step, chain, clean.spec.on);
    if (clean?.state === "queued" && isStranded(step, clean.spec.on)) {
      fail(step, chain, { kind: "agent-lost", agent: clean.spec.on, effect: "none" });
    }
  }
}

function settleHeldClean(step: Step, chain: Chain, agent: AgentId): void {
  const alive = aliveFor(step, chain, agent);
  if (alive.length === 0) {
    step.change(chain.id, "clean", { state: "queued", queuedAt: step.at });
    return;
  }
  const waitedMs = step.at - chain.createdAt;
  const unproven = alive.find(({ job }) => !isAwaited(job));
  if (unproven === undefined || waitedMs < deathMsMax) return;
  const { chain: other, job } = unproven;
  const where = job.assigned?.agent ?? "?";
  fail(step, chain, { kind: "death-unproven", job: jobRef(other.id, job.name), agent: where, waitedMs });
}

function fail(step: Step, chain: Chain, failure: Failure): void {
  step.change(chain.id, "clean", { state: "failed", outcome: { kind: "failed", failure } });
}

/** Invariant 1. */
function aliveFor(step: Step, chain: Chain, agent: AgentId): readonly { chain: Chain; job: Job }[] {
  return step.draft
    .taking()
    .filter((other) => other.id !== chain.id)
    .flatMap((other) => jobsOf(other).map((job) => ({ chain: other, job })))
    .filter(({ chain: other, job }) => {
      const isAlive = isInHand(job.state) || (job.name === "upload" && takesDevice(job));
      if (!isAlive) return false;
      const isOnAgent = job.assigned?.agent === agent;
      if (job.name === "clean") return isOnAgent;
      if (chain.kind === "reset") return true;
      return job.name === "compile" && isOnAgent && configurationsOf(other).includes(chain.configuration);
    });
}

/** Invariant 2: a flash that has begun, and a probe that follows one. */
function isAwaited(job: Job): boolean {
  return isPastNoReturn(job) || (job.name === "upload" && job.mode === "probe");
}

/** Invariant 3. The time is for agents that restart, and for those that a coordinator has not heard since it started. */
function isStranded(step: Step, agent: AgentId): boolean {
  const { vanishedAt } = step.draft.agent(agent) ?? miss(step, "compile", { agent, boot: neverHeard });
  return vanishedAt !== undefined && step.at - vanishedAt >= awayMsMax;
}
