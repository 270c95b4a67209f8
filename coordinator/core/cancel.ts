/** Cancelling: what has not started ends at once, what runs is stopped and ends with its proof of death, what flashes wins. */
import type { CancelVerdict } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { jobsOf } from "#protocol/chain.ts";
import type { JobName } from "#protocol/ids.ts";
import { type CancelCause, isTerminal, type Job } from "#protocol/job.ts";
import type { Step } from "#coordinator/core/step.ts";

/** Past this point a job is ended by the device's answer only. */
export function isPastNoReturn(job: Job): boolean {
  return job.name === "upload" && job.flashClaim !== undefined && !isTerminal(job.state);
}

/**
 * Cancels a chain, or the named jobs of it; a cancelled compile takes its dependent upload with it. `isForced`: also a flash over a port
 * that has begun, whose device is then left without a build that starts.
 */
export function cancelChain(
  step: Step,
  chain: Chain,
  cause: CancelCause,
  names?: readonly JobName[],
  isForced = false,
): CancelVerdict {
  const wanted = jobsOf(chain).filter(
    (job) =>
      names === undefined ||
      names.includes(job.name) ||
      names.includes("compile") ||
      (job.name === "confirm" && names.includes("upload")),
  );
  const { id, configuration } = chain;
  const verdict = { chain: id, configuration, jobs: [] as JobName[], tooLate: [] as JobName[] };
  // Dependents first: no step may see a released upload of a cancelled build.
  for (const job of wanted.toReversed()) {
    if (isTerminal(job.state)) continue;
    // A flash that goes on is asked for like any other.
    if (job.name === "confirm" && chain.upload !== undefined && isPastNoReturn(chain.upload)) continue;
    const isCut = isForced && job.name === "upload" && job.spec.target.kind === "serial" && job.state === "running";
    if (isPastNoReturn(job) && !isCut) {
      verdict.tooLate.push(job.name);
      continue;
    }
    verdict.jobs.push(job.name);
    if (job.state === "running" && job.assigned !== undefined) {
      step.change(chain.id, job.name, { state: "cancelling", outcome: { kind: "cancelled", cause } });
      step.effects.push({
        kind: "stop",
        agent: job.assigned.agent,
        chain: chain.id,
        job: job.name,
        attempt: job.attempt,
        ...(isCut ? { isForced } : {}),
      });
    } else if (job.state !== "cancelling") {
      // A dispatched job that nobody has claimed is ended here: its claim will be dropped.
      step.change(chain.id, job.name, { state: "cancelled", outcome: { kind: "cancelled", cause } });
    }
  }
  return verdict;
}
