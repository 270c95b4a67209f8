/** How an attempt ended, turned into how the job stands: done, tried again, or over. */
import type { Chain } from "#protocol/chain.ts";
import { effectOf, type Failure, retryOf } from "#protocol/failure.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Job } from "#protocol/job.ts";
import { attemptsMax, backoffMs, backoffMsMax, lostAttemptsMax } from "#protocol/limits.ts";
import type { JobResult } from "#protocol/job.ts";
import { settleDependent } from "#coordinator/core/chains.ts";
import { settleEqualBuilds } from "#coordinator/core/equal-builds.ts";
import { isPastNoReturn } from "#coordinator/core/cancel.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Step } from "#coordinator/core/step.ts";
import { awaitEveryMs } from "#coordinator/core/timing.ts";

/** Applies the result of the attempt in hand to its job, and to the dependent that was held for it. */
export function settleAttempt(step: Step, chain: Chain, job: Job, result: JobResult): void {
  if (job.state === "cancelling") settleCancelling(step, chain, job, result);
  else {
    switch (result.kind) {
      case "built":
      case "flashed":
      case "confirmed":
      case "cleaned":
        settleSuccess(step, chain, job, result);
        break;
      case "failed":
        settleFailure(step, chain, job, result.failure);
        break;
      case "stopped":
        // Nobody asked for it: the agent gave the job back, e.g. because it was shut down.
        settleFailure(step, chain, job, { kind: "agent-lost", agent: job.assigned?.agent ?? "?", effect: "none" });
        break;
    }
  }
  const current = step.draft.chain(chain.id);
  if (current === undefined) return;
  settleDependent(step, current);
  if (job.name === "compile") settleEqualBuilds(step, current);
}

/** The result proves that the attempt has ended. A cancelled build stays cancelled even if it had just succeeded. */
function settleCancelling(step: Step, chain: Chain, job: Job, result: JobResult): void {
  if (result.kind === "flashed") settleSuccess(step, chain, job, result);
  // Cut off by force in the middle of a flash: the device has something to say about that.
  else if (result.kind === "failed" && isPastNoReturn(job)) end(step, chain, job, result.failure);
  else step.change(chain.id, job.name, { state: "cancelled" });
}

const resultOf = { compile: "built", upload: "flashed", confirm: "confirmed", clean: "cleaned" } as const;

function settleSuccess(
  step: Step,
  chain: Chain,
  job: Job,
  result: Extract<JobResult, { kind: "built" | "flashed" | "confirmed" | "cleaned" }>,
): void {
  const fits = result.kind === resultOf[job.name];
  if (fits) step.change(chain.id, job.name, { state: "succeeded", outcome: result });
  else end(step, chain, job, { kind: "internal", detail: `a ${job.lane} job was reported as ${result.kind}` });
}

/**
 * How long after the proven end of a flash its device is asked: its connection was closed, so the device needs only the time to notice
 * that, or to reboot into the image that it had taken whole.
 */
export const probeAfterEndMs = 1_000;

/**
 * A flash that was taken for lost, and its agent is back with the result before the device was asked: its word is as good as the
 * probe's, and minutes earlier. What it does not know either is left to the probe, which need not wait any more.
 */
export function settleLostFlash(
  step: Step,
  { agent, boot, chain: id, attempt, result }: Extract<FarmEvent, { kind: "job-reported" }>,
): void {
  const upload = step.draft.chain(id)?.upload;
  if (upload?.state !== "queued" || upload.flashClaim?.attempt !== attempt || upload.attempt !== attempt) return;
  const lost = upload.earlier.at(-1);
  if (lost?.kind !== "agent-lost" || lost.agent !== agent) return;
  const ran = { assigned: { agent, boot }, startedAt: upload.flashClaim.at, notBeforeAt: undefined };
  if (result.kind === "flashed") step.change(id, "upload", { ...ran, state: "succeeded", outcome: result });
  else if (result.kind === "failed" && isDeviceKnown({ ...upload, mode: "flash" }, result.failure)) {
    step.change(id, "upload", { ...ran, state: "failed", outcome: result });
  } else step.change(id, "upload", { notBeforeAt: step.at + probeAfterEndMs });
}

/** The newest eight failures are kept with the job. */
function withEarlier(job: Job, failure: Failure): Failure[] {
  return [...job.earlier, failure].slice(-8);
}

function end(step: Step, chain: Chain, job: Job, failure: Failure): void {
  const state = isDeviceKnown(job, failure) ? "failed" : "unknown";
  step.change(chain.id, job.name, { state, outcome: { kind: "failed", failure } });
}

/** Whether it is certain what a failed job left on its device. */
function isDeviceKnown(job: Job, failure: Failure): boolean {
  if (job.lane === "compile" || failure.kind === "not-running") return true;
  if (job.name === "confirm") return failure.kind === "rolled-back";
  // A probe touches nothing, but it was sent because an earlier attempt may have; only the device's own word settles that.
  if (job.mode === "probe") return false;
  // A bug that shows after the flash claim says nothing of what was sent before it.
  if (job.flashClaim !== undefined && failure.kind === "internal") return false;
  const effect = effectOf(failure);
  return effect === "none" || effect === "partial";
}

/** Tries again where that is safe and can help; a job past its flash claim is never dispatched to flash again. */
export function settleFailure(step: Step, chain: Chain, job: Job, failure: Failure): void {
  const isLost = failure.kind === "agent-lost";
  const isFinal = retryOf(failure) === "never" || isPastNoReturn(job) || job.name === "clean";
  if (!isFinal && isUnreached(failure)) return settleUnreached(step, chain, job, failure);
  if (isFinal || job.earlier.length + 1 >= (isLost ? lostAttemptsMax : attemptsMax)) {
    end(step, chain, job, failure);
    return;
  }
  const elsewhere = retryOf(failure) === "elsewhere" && !isLost;
  const avoid: AgentId[] = elsewhere && job.assigned !== undefined ? [...job.avoid, job.assigned.agent] : job.avoid;
  const hasOther = step.draft
    .agents()
    .some((agent) => refusalOf({ ...job, avoid }, agent, step.draft.knowledge) === undefined);
  if (elsewhere && !hasOther) {
    end(step, chain, job, failure);
    return;
  }
  requeue(step, chain, job, failure, { avoid, notBeforeAt: elsewhere ? step.at : step.at + backoffOf(job) });
}

const isUnreached = ({ kind }: Failure): boolean => kind === "device-unreachable" || kind === "port-missing";

/**
 * The device does not answer this agent. Every other agent that may have the job is asked before there is a pause; and a job that
 * waits for its device goes on waiting.
 */
function settleUnreached(step: Step, chain: Chain, job: Job, failure: Failure): void {
  const able = step.draft
    .agents()
    .filter((agent) => refusalOf({ ...job, avoid: [] }, agent, step.draft.knowledge) === undefined)
    .map(({ announcement }) => announcement.agent);
  const avoid = job.assigned === undefined ? job.avoid : [...job.avoid, job.assigned.agent];
  if (able.some((agent) => !avoid.includes(agent))) {
    requeue(step, chain, job, failure, { avoid, notBeforeAt: step.at });
  } else if (job.name === "upload" && job.spec.timing?.isAwaited === true) {
    requeue(step, chain, job, failure, { avoid: [], notBeforeAt: step.at + awaitEveryMs });
  } else if (job.attempt >= attemptsMax * Math.max(1, able.length)) {
    end(step, chain, job, failure);
  } else requeue(step, chain, job, failure, { avoid: [], notBeforeAt: step.at + backoffOf(job) });
}

/** Pause before the next attempt: three times as long with each failure. */
function backoffOf({ earlier }: Job): number {
  return Math.min(backoffMs * 3 ** earlier.length, backoffMsMax);
}

/** Gives the job back to the queue; its next dispatch is the next attempt, and this one's claims and reports are refused. */
export function requeue(
  step: Step,
  chain: Chain,
  job: Job,
  failure: Failure,
  change: { readonly avoid?: AgentId[]; readonly notBeforeAt: number; readonly mode?: "probe" },
): void {
  step.change(chain.id, job.name, {
    state: "queued",
    earlier: withEarlier(job, failure),
    assigned: undefined,
    startedAt: undefined,
    ...change,
  });
}
