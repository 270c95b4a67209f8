/**
 * What becomes of jobs whose agent is gone.
 *
 * 1. A lost build is repeated at once as the next attempt; a report of the old one is refused by its number.
 * 2. A lost flash is never repeated: its next attempt only asks the device, once no session of the lost agent can be alive. An agent
 *    that is back and still at it puts that off. A lost probe is repeated at once: whoever asks writes nothing.
 * 3. A job that is being cancelled is over when its agent's next boot proves the death, or when the lease of an agent that
 *    went away has run out, by which time that agent has killed its own work.
 * 4. A job that a present agent does not hold a lease after its claim is lost: the answer to the claim never arrived.
 * 5. An agent that holds jobs and was never heard since the coordinator started is away from the first pulse on.
 * 6. What waits for another agent than those that failed it does so for a lease; where no other comes, it is open to all again.
 */
import type { Announcement, HeldJob } from "#protocol/agent.ts";
import type { Chain } from "#protocol/chain.ts";
import { jobsOf } from "#protocol/chain.ts";
import type { AgentId } from "#protocol/ids.ts";
import { type Assignment, type Job, Lane } from "#protocol/job.ts";
import { deviceDataTimeoutMs, leaseMs } from "#protocol/limits.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { probeAfterEndMs, requeue, settleFailure } from "#coordinator/core/reports.ts";
import type { Step } from "#coordinator/core/step.ts";

/** A dispatch that nobody has claimed for this long is taken back; the lane message may have been lost. */
const unclaimedMsMax = leaseMs;

/** Jobs in the hands of an agent, with their chains. */
function inHandOf(step: Step, agent: AgentId): readonly { chain: Chain; job: Job }[] {
  return step.draft
    .inHandOf(agent)
    .flatMap((chain) => jobsOf(chain).map((job) => ({ chain, job })))
    .filter(({ job }) => job.assigned?.agent === agent && isInHand(job.state));
}

function lose(step: Step, chain: Chain, job: Job, agent: AgentId, probeAt: number): void {
  if (job.name === "clean") {
    settleFailure(step, chain, job, { kind: "agent-lost", agent, effect: "none" });
  } else if (job.name === "upload" && job.flashClaim !== undefined) {
    // A probe writes nothing: by the time it began the lost flash was dead, and the next one need not wait again.
    const notBeforeAt = job.mode === "probe" ? step.at : probeAt;
    requeue(step, chain, job, { kind: "agent-lost", agent, effect: "uncertain" }, { mode: "probe", notBeforeAt });
  } else {
    requeue(step, chain, job, { kind: "agent-lost", agent, effect: "none" }, { notBeforeAt: step.at });
  }
}

/** Compares what the records say of an agent with its statement: a new boot has lost what the old one held. */
export function reconcileAgent(step: Step, agent: AgentId): void {
  const announcement = step.draft.agent(agent)?.announcement;
  if (announcement === undefined) return;
  const records = inHandOf(step, agent);
  for (const { chain, job } of records) {
    if (job.assigned === undefined || job.assigned.boot === announcement.boot) continue;
    if (job.state === "cancelling") step.change(chain.id, job.name, { state: "cancelled" });
    else lose(step, chain, job, agent, step.at + probeAfterEndMs);
  }
  for (const held of announcement.holding) {
    postponeProbe(step, held);
    const mine = records.find(({ chain, job }) => chain.id === held.chain && job.name === held.job);
    const isCurrent = mine !== undefined && mine.job.attempt === held.attempt && mine.job.state !== "cancelling";
    if (!isCurrent) step.effects.push({ kind: "stop", agent, ...held });
  }
}

/** How much earlier than by its newest statement a returned flasher's device may be asked: one write of the record in this time. */
const postponeEveryMs = 15_000;

/**
 * A flasher that was given up is back, and still at it. Its device is asked so long after its last word as if it had been lost only
 * then; written down, because it may fall silent again, and because a coordinator that starts has not heard it.
 */
function postponeProbe(step: Step, { chain, job, attempt }: HeldJob): void {
  const upload = job === "upload" ? step.draft.chain(chain)?.upload : undefined;
  if (upload?.state !== "queued" || upload.mode !== "probe" || upload.flashClaim?.attempt !== attempt) return;
  const until = step.at + leaseMs + deviceDataTimeoutMs;
  if ((upload.notBeforeAt ?? 0) < until - postponeEveryMs) step.change(chain, "upload", { notBeforeAt: until });
}

/** The agent's presence ended: it was killed, cut off, or frozen; nobody can tell which. */
export function loseAgent(step: Step, agent: AgentId): void {
  const state = step.draft.agent(agent);
  if (state === undefined || state.vanishedAt !== undefined) return;
  step.draft.setAgent({ ...state, vanishedAt: step.at });
  for (const { chain, job } of inHandOf(step, agent)) {
    if (job.state !== "cancelling") lose(step, chain, job, agent, step.at + leaseMs + deviceDataTimeoutMs);
  }
}

/** What the mere passing of time ends: unclaimed dispatches, and whatever is in the hands of nobody. */
export function expireLeases(step: Step): void {
  for (const chain of step.draft.taking()) {
    for (const job of jobsOf(chain)) {
      if (job.assigned === undefined || !isInHand(job.state)) continue;
      const { agent } = job.assigned;
      const state = step.draft.agent(agent) ?? miss(step, job.lane, job.assigned);
      const heldSince = job.startedAt ?? job.dispatchedAt ?? step.at;
      const isAway = state.vanishedAt !== undefined && step.at - state.vanishedAt >= leaseMs;
      const isForgotten =
        state.vanishedAt === undefined && step.at - heldSince >= leaseMs && !isHeldBy(state.announcement, chain, job);
      if (job.state === "dispatched" && step.at - (job.dispatchedAt ?? step.at) >= unclaimedMsMax) {
        requeue(step, chain, job, { kind: "agent-lost", agent, effect: "none" }, { notBeforeAt: step.at });
      } else if (job.state === "cancelling") {
        if (isAway || isForgotten) step.change(chain.id, job.name, { state: "cancelled" });
      } else if (isAway || (job.state === "running" && isForgotten)) {
        lose(step, chain, job, agent, step.at + leaseMs + deviceDataTimeoutMs);
      }
    }
  }
}

/** Invariant 6: the other one may have gone for good since. */
export function openToAll(step: Step): void {
  const { draft, at } = step;
  const barred = Lane.options.flatMap((lane) =>
    [...draft.queued(lane)].flatMap((chain) =>
      jobsOf(chain)
        .filter((job) => job.state === "queued" && job.avoid.length > 0 && at - (job.notBeforeAt ?? 0) >= leaseMs)
        .map((job) => ({ chain, job })),
    ),
  );
  for (const { chain, job } of barred) {
    const hasTaker = draft.agents().some((agent) => refusalOf(job, agent, draft.knowledge) === undefined);
    if (!hasTaker) step.change(chain.id, job.name, { avoid: [] });
  }
}

/** True when an agent says that it has this attempt of the job in its hands. */
function isHeldBy(announcement: Announcement, chain: Chain, job: Job): boolean {
  return announcement.holding.some(
    (held) => held.chain === chain.id && held.job === job.name && held.attempt === job.attempt,
  );
}

/** Stands in for the statement of an agent that only the records know: away from now on, until it speaks. */
export function miss(step: Step, lane: Lane, assigned: Assignment): AgentState {
  const announcement: Announcement = {
    v: 1,
    ...assigned,
    lane,
    slots: 0,
    idleSince: null,
    holding: [],
    version: "?",
    host: "?",
    pid: 0,
  };
  const state: AgentState = { announcement, seenAt: step.at, vanishedAt: step.at };
  step.draft.setAgent(state);
  return state;
}
