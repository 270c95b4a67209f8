/** How an attempt ended, turned into how the job stands: done, tried again, or over. */
import type { Chain } from "#protocol/chain.ts";
import { effectOf, type Failure, retryOf } from "#protocol/failure.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Job } from "#protocol/job.ts";
import { attemptsMax, backoffMs } from "#protocol/limits.ts";
import type { JobResult } from "#protocol/job.ts";
import { settleDependent } from "#coordinator/core/chains.ts";
import { isPastNoReturn } from "#coordinator/core/cancel.ts";
import { refusalOf } from "#coordinator/core/placement.ts";
import type { Step } from "#coordinator/core/step.ts";

/** Applies the result of the attempt in hand to its job, and to the dependent that was held for it. */
export function settleAttempt(step: Step, chain: Chain, job: Job, result: JobResult): void {
  if (job.state === "cancelling") settleCancelling(step, chain, job, result);
  else {
    switch (result.kind) {
      case "built":
      case "flashed":
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
  if (current !== undefined) settleDependent(step, current);
}

/** The result proves that the attempt has ended. A cancelled build stays cancelled even if it had just succeeded. */
function settleCancelling(step: Step, chain: Chain, job: Job, result: JobResult): void {
  if (result.kind === "flashed") settleSuccess(step, chain, job, result);
  else step.change(chain.id, job.name, { state: "cancelled" });
}

function settleSuccess(
  step: Step,
  chain: Chain,
  job: Job,
  result: Extract<JobResult, { kind: "built" | "flashed" }>,
): void {
  const fits = job.lane === "compile" ? result.kind === "built" : result.kind === "flashed";
  if (fits) step.change(chain.id, job.name, { state: "succeeded", outcome: result });
  else end(step, chain, job, { kind: "internal", detail: `a ${job.lane} job was reported as ${result.kind}` });
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
  // A probe touches nothing, but it was sent because an earlier attempt may have; only the device's own word settles that.
  if (job.mode === "probe") return false;
  // A bug that shows after the flash claim says nothing of what was sent before it.
  if (job.flashClaim !== undefined && failure.kind === "internal") return false;
  const effect = effectOf(failure);
  return effect === "none" || effect === "partial";
}

/** Tries again where that is safe and can help; a job past its flash claim is never dispatched to flash again. */
export function settleFailure(step: Step, chain: Chain, job: Job, failure: Failure): void {
  const isFinal = retryOf(failure) === "never" || isPastNoReturn(job) || job.earlier.length + 1 >= attemptsMax;
  if (isFinal) {
    end(step, chain, job, failure);
    return;
  }
  const elsewhere = retryOf(failure) === "elsewhere" && failure.kind !== "agent-lost";
  const avoid: AgentId[] = elsewhere && job.assigned !== undefined ? [...job.avoid, job.assigned.agent] : job.avoid;
  const hasOther = step.draft.agents().some((agent) => refusalOf({ ...job, avoid }, agent) === undefined);
  if (elsewhere && !hasOther) {
    end(step, chain, job, failure);
    return;
  }
  requeue(step, chain, job, failure, { avoid, notBeforeAt: elsewhere ? step.at : step.at + backoffMs });
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
