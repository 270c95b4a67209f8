/** Why each job of a chain waits, or where it went: one line a fact. Pure. */
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import { describeFailure } from "#protocol/failure.ts";
import type { ChainId } from "#protocol/ids.ts";
import { isTerminal, type Job } from "#protocol/job.ts";
import { describeWindow } from "#protocol/timing.ts";
import { blockedBuilder } from "#coordinator/core/blocked-builds.ts";
import { deviceKeys, gateOf, isGated, scarceSegment, takenIn } from "#coordinator/core/conflicts.ts";
import { expectedBuildMs, expectedUploadMs } from "#coordinator/core/durations.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import { equalInHand, sharedKey } from "#coordinator/core/equal-builds.ts";
import type { Draft, Farm } from "#coordinator/core/farm.ts";
import { isCleaning, isInHand } from "#coordinator/core/in-hand.ts";
import { expectedMs } from "#coordinator/core/order.ts";
import { flasherOf, placementRule } from "#coordinator/core/placement.ts";
import { fedAhead } from "#coordinator/core/scarce-media.ts";
import { freeInMs, freeOf, type LaneState, lanesOf, slotsOf, warmLanes } from "#coordinator/core/slots.ts";
import { Step } from "#coordinator/core/step.ts";
import { isAwaiting, isWithin } from "#coordinator/core/timing.ts";
import { isWarmFor } from "#coordinator/core/warmth.ts";
import { heldBack } from "#coordinator/core/waves.ts";

export function explain(farm: Farm, id: ChainId, at: number): readonly string[] {
  const chain = farm.chains.get(id);
  if (chain === undefined) return [];
  const step = new Step(farm, at);
  try {
    return jobsOf(chain).flatMap((job) => explainJob(step, chain, job));
  } finally {
    // Gives the farm its index back.
    step.draft.finish();
  }
}

function explainJob(step: Step, chain: Chain, job: Job): readonly string[] {
  const lines = [
    `${job.name}: ${job.state}${job.assigned === undefined ? "" : ` on ${job.assigned.agent}, attempt ${job.attempt}`}`,
  ];
  for (const failure of job.earlier) lines.push(`  earlier: ${describeFailure(failure)}`);
  if (job.state === "held") lines.push(`  waits ${whyHeld(step, chain, job)}`);
  if (job.outcome?.kind === "failed") lines.push(`  ${describeFailure(job.outcome.failure)}`);
  if (job.outcome?.kind === "cancelled") lines.push(`  cancelled: ${job.outcome.cause}`);
  if (job.outcome?.kind === "built") lines.push(...howBuilt(job.outcome));
  if (job.name === "compile" && isInHand(job.state)) lines.push(...howBuilding(step.draft, chain, job));
  if (job.state === "queued") lines.push(...whyQueued(step, chain, job));
  if (isTerminal(job.state) || job.name !== "upload") return lines;
  if (job.flashClaim !== undefined)
    lines.push("  past the point of no return: the flash ends before anything else happens");
  return lines;
}

function whyHeld({ draft, at }: Step, chain: Chain, job: Job): string {
  const { compile, upload } = chain;
  if (job.name === "clean") return "until everything that may still write to its trees is dead";
  if (job.name === "confirm") {
    if (upload?.state !== "succeeded") return `for the upload of this chain, which is ${upload?.state ?? "missing"}`;
    const leftMs = (upload.endedAt ?? at) + job.spec.afterMs - at;
    return `another ${about(Math.max(0, leftMs))}, and then asks the device whether it still runs this build`;
  }
  const why = compile?.state === "succeeded" ? heldBack(chain, draft.standingOf(chain)) : undefined;
  if (why !== undefined) return `because ${why}`;
  return `for the compile of this chain, which is ${compile?.state ?? "missing"}`;
}

function howBuilding(draft: Draft, chain: Chain, { assigned }: Job): readonly string[] {
  const agent = assigned === undefined ? undefined : draft.agent(assigned.agent);
  if (agent === undefined) return [];
  const isWarm = isWarmFor(chain, agent);
  const length = about(expectedBuildMs(draft.knowledge, chain, isWarm));
  return [`  ${isWarm ? "has its tree there" : "has no tree there"}: expected to take ${length} in all`];
}

function howBuilt({ reusedFrom, isWarm }: Extract<NonNullable<Job["outcome"]>, { kind: "built" }>): readonly string[] {
  if (reusedFrom !== undefined) return [`  was not built: ${reusedFrom} had built the very same`];
  if (isWarm === undefined) return [];
  return [isWarm ? "  was built in its warm tree" : "  was built from nothing: that agent had no tree of it"];
}

function whyQueued(step: Step, chain: Chain, job: Job): readonly string[] {
  const { draft, at } = step;
  const lanes = lanesOf(step, job.lane);
  const wait = (job.notBeforeAt ?? at) - at;
  const lines = [...whatHolds(step, chain, job)];
  if (wait > 0) lines.push(`  not before ${Math.ceil(wait / 1000)} s from now`);
  lines.push(...placeInQueue(step, lanes, chain, job));
  if (job.name === "compile" && wait <= 0) lines.push(...whereMeant(draft, lanes, chain, job, at));
  if (draft.agents().length === 0) lines.push("  no agent has announced itself: start one with `flashyard up`");
  for (const agent of draft.agents()) {
    if (agent.announcement.lane !== job.lane) continue;
    const lane = lanes.find((one) => one.agent === agent);
    const reason = refusalOf(job, agent, draft.knowledge) ?? (lane === undefined ? "is away" : stateOf(lane, chain));
    lines.push(`  ${agent.announcement.agent} ${reason}`);
  }
  return lines;
}

/** Which agent a build waits for, while others may be free. */
function whereMeant(draft: Draft, lanes: readonly LaneState[], chain: Chain, job: Job, at: number): readonly string[] {
  const { knowledge } = draft;
  const plan = placementRule.plan(draft, lanes, at);
  const choice = placementRule.choose(
    { knowledge, free: freeOf(lanes), warm: warmLanes(draft, lanes)(chain), plan, isLastWord: false },
    chain,
    job,
  );
  const lane = choice.kind === "wait" ? lanes.find(({ agent }) => agent === choice.for) : plan.get(chain.id);
  if (lane === undefined || lane.free > 0) return [];
  const { agent } = lane.agent.announcement;
  if (isWarmFor(chain, lane.agent)) {
    const coldMs = expectedBuildMs(knowledge, chain, false);
    return [`  waits for ${agent}, where its build tree is warm: cold elsewhere it takes ${about(coldMs)}`];
  }
  const isAnyFree = lanes.some((one) => one.free > 0 && refusalOf(job, one.agent, knowledge) === undefined);
  return isAnyFree ? [`  is meant for ${agent}, which is done first with what it has to do`] : [];
}

/** What keeps it from every agent. */
function whatHolds({ draft, at }: Step, chain: Chain, job: Job): readonly string[] {
  const lines: string[] = [];
  const taken = takenIn(draft.taking());
  if (job.name === "upload" && job.mode === "probe")
    lines.push("  an earlier attempt may have flashed: the device will be asked");
  const flasher = flasherOf(draft.agents(), chain, job);
  if (flasher !== undefined) lines.push(`  ${flasher} was taken for lost, is back and still at it`);
  const gate = gateOf(draft.chains().filter(isCleaning));
  if (isGated(gate, chain, job)) {
    lines.push(
      gate.isResetting
        ? "  a reset takes all build trees away: nothing is built or flashed until it is over"
        : "  its build tree is being taken away (clean): it is neither built nor flashed until that is over",
    );
  }
  if (job.name === "compile" && configurationsOf(chain).some((name) => taken.trees.has(name)))
    lines.push("  an older build of this configuration is still ending");
  const key = job.name === "compile" ? sharedKey(chain) : undefined;
  const equal = key === undefined ? undefined : equalInHand(draft, chain, key);
  if (equal !== undefined) lines.push(`  ${equal} builds the very same: it will serve this chain as well`);
  if (job.name !== "upload") return lines;
  const { timing } = job.spec;
  if (timing?.window !== undefined && !isWithin(timing.window, at))
    lines.push(`  begins between ${describeWindow(timing.window)} only`);
  if (isAwaiting(job)) lines.push("  waits for a sign of life of its device");
  const builder = blockedBuilder(chain, draft.knowledge.blocked);
  if (builder !== undefined) {
    lines.push(
      `  is not flashed: ${builder}, which built it, is blocked (\`flashyard agent artifacts ${builder}\`); cancel it, and build anew`,
    );
  }
  const why = heldBack(chain, draft.standingOf(chain));
  if (why !== undefined) lines.push(`  is kept back: ${why}`);
  const busyKey = deviceKeys(job.spec.target).find((key) => taken.devices.has(key));
  if (busyKey !== undefined) lines.push(`  another upload to ${busyKey} has not ended`);
  const segment = scarceSegment(job.spec.target);
  if (segment !== undefined && taken.segments.has(segment))
    lines.push(`  another upload is on ${segment}, which carries one at a time`);
  return lines;
}

/** Where it stands, why, and when it may begin. */
function placeInQueue({ draft, at }: Step, lanes: readonly LaneState[], chain: Chain, job: Job): readonly string[] {
  const slots = slotsOf(lanes);
  const inOrder = new Map([...placementRule.order(draft, job.lane, lanes, at)].map((one) => [one.id, one]));
  const place = [...inOrder.keys()].indexOf(chain.id);
  const ahead = [...inOrder.values()].slice(0, Math.max(0, place));
  const lines = [
    `  ${place + 1} of ${inOrder.size} in the queue: ${chain.priority ?? "interactive"}, ${lengthOf(draft, chain, job)}`,
  ];
  if (job.name === "compile") {
    const isAmong = (ahead: readonly Chain[]) => ahead.some(({ id }) => id === chain.id);
    const segment = chain.upload === undefined ? undefined : scarceSegment(chain.upload.spec.target);
    if (isAmong(fedAhead(draft, lanes, at))) lines.push(`  goes ahead: ${segment} must not run dry`);
  }
  const able = lanes.filter(({ agent }) => refusalOf(job, agent, draft.knowledge) === undefined);
  if (able.length === 0) return [...lines, "  cannot start: no agent that is here may take it"];
  const ownLength = (one: Chain) =>
    job.lane === "compile" ? expectedMs(draft, one) : expectedUploadMs(draft.knowledge, one);
  const aheadMs = ahead.reduce((sum, one) => sum + ownLength(one), 0);
  const startMs = Math.min(...able.map(freeInMs)) + aheadMs / Math.max(1, slots);
  return [...lines, `  expected to start ${startMs < 1_000 ? "now" : `in ${about(startMs)}`}`];
}

function lengthOf({ knowledge }: Draft, chain: Chain, job: Job): string {
  if (job.name === "clean") return "takes as long as deleting its files";
  if (job.name === "upload") return `expected to take ${about(expectedUploadMs(knowledge, chain))}`;
  if (job.name === "confirm") return "a question to the device";
  const [warmMs, coldMs] = [expectedBuildMs(knowledge, chain, true), expectedBuildMs(knowledge, chain, false)];
  return `expected to take ${about(warmMs)} where its tree is warm, ${about(coldMs)} elsewhere`;
}

function stateOf(lane: LaneState, chain: Chain): string {
  const { slots } = lane.agent.announcement;
  const warm = isWarmFor(chain, lane.agent) ? ", has its tree" : "";
  if (lane.free > 0) return `can take it${warm}`;
  const busy = `is busy (${slots - lane.free} of ${slots} slots${freeInMs(lane) > 0 ? `, free in ${about(freeInMs(lane))}` : ""})`;
  return busy + warm;
}

function about(ms: number): string {
  if (ms < 1_000) return "less than a second";
  return ms < 100_000 ? `about ${Math.round(ms / 1000)} s` : `about ${Math.round(ms / 60_000)} min`;
}
