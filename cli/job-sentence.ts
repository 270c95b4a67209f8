/** What is to be said of a job, in one line. Pure. */
import { describeFailure, tailOf } from "#protocol/failure.ts";
import { type ChainId, jobRef } from "#protocol/ids.ts";
import type { CancelCause, Job, JobState, Outcome } from "#protocol/job.ts";
import type { Progress } from "#protocol/messages.ts";
import { shown } from "#cli/clean-text.ts";
import { duration, size } from "#cli/render.ts";

const causes: Readonly<Record<CancelCause, string>> = {
  request: "on request",
  superseded: "a newer request for this configuration took its place",
  "prerequisite-failed": "its build failed, nothing was flashed",
  "prerequisite-cancelled": "its build was cancelled, nothing was flashed",
  "prerequisite-unknown": "how its build ended is not known, nothing was flashed",
};

/** The state with everything that the record says of it: `running on build-1`, `succeeded in 0.4 s: runs 2026.10.0 built …`. */
export function jobSentence(job: Job): string {
  const { state, outcome, assigned } = job;
  const agent = assigned === undefined ? "" : ` on ${assigned.agent}`;
  switch (state) {
    case "held":
      return "held until its build has succeeded";
    case "queued": {
      const earlier = job.earlier.at(-1);
      return earlier === undefined ? "queued" : shown(`queued again: ${describeFailure(earlier)}`);
    }
    case "dispatched":
      return `dispatched to ${assigned?.agent ?? "an agent"}`;
    case "running":
      return `running${agent}${job.attempt > 1 ? `, attempt ${job.attempt}` : ""}`;
    case "cancelling":
      return `cancelling: waits until everything of it${agent} has ended`;
    case "cancelled":
      return outcome?.kind === "cancelled" ? `cancelled: ${causes[outcome.cause]}` : "cancelled";
    case "succeeded":
      return shown(`succeeded${tookOf(job)}${outcome === undefined ? "" : resultOf(outcome)}`);
    case "failed":
    case "unknown": {
      const reason = outcome?.kind === "failed" ? describeFailure(outcome.failure) : "nobody can say how it ended";
      return shown(`${state}${tookOf(job)}${agent}: ${reason}`);
    }
  }
}

function tookOf(job: Job): string {
  return job.startedAt === undefined || job.endedAt === undefined ? "" : ` in ${duration(job.endedAt - job.startedAt)}`;
}

function resultOf(outcome: Outcome): string {
  if (outcome.kind === "built") {
    const { images, platform } = outcome.manifest;
    const main = images.find((image) => image.role === "ota") ?? images[0];
    const others = images.length > 1 ? ` and ${images.length - 1} more` : "";
    return main === undefined ? "" : `: ${main.name}${others}, ${size(main.bytes)}, for ${platform}`;
  }
  if (outcome.kind !== "flashed") return "";
  const { report, wrote, level } = outcome;
  if (report !== undefined) {
    const had = wrote ? "runs" : "nothing to do, it runs";
    return `: ${had} ${report.esphomeVersion} built ${report.compilationTime}`;
  }
  return level === "running" ? ": it runs this build" : ": the device took it, but could not be asked what it runs";
}

/** Phase and percentage of a running job: `flashing 40 %`. */
export function progressSentence(progress: Progress): string {
  const percent = progress.percent === undefined ? "" : ` ${Math.floor(progress.percent)} %`;
  return shown(`${progress.phase}${percent}`);
}

/** What to print below a job that has failed: the tool's own last lines, and where the rest is. */
export function failureLines(chain: ChainId, job: Job): readonly string[] {
  if (job.outcome?.kind !== "failed") return [];
  const tail = tailOf(job.outcome.failure).map((line) => `    | ${shown(line)}`);
  const next = job.startedAt === undefined ? [] : [`    the whole log: flashyard logs ${jobRef(chain, job.name)}`];
  return [...tail, ...next];
}

export type Colour = "green" | "red" | "yellow" | "cyan" | "dim";

export const colourOf: Readonly<Record<JobState, Colour>> = {
  held: "dim",
  queued: "dim",
  dispatched: "dim",
  running: "cyan",
  cancelling: "yellow",
  succeeded: "green",
  failed: "red",
  cancelled: "yellow",
  unknown: "yellow",
};
