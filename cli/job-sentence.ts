/** What is to be said of a job, in one line. Pure. */
import { describeFailure, instant, tailOf } from "#protocol/failure.ts";
import { type AgentId, type ChainId, type Configuration, everyConfiguration, jobRef } from "#protocol/ids.ts";
import type { CancelCause, Job, JobState, Outcome } from "#protocol/job.ts";
import type { Progress } from "#protocol/messages.ts";
import { shown } from "#cli/clean-text.ts";
import { count, duration, size } from "#cli/render.ts";

/** A configuration as a sentence names it. */
export function nameOf(configuration: Configuration): string {
  return configuration === everyConfiguration ? "every configuration" : shown(configuration);
}

/** Where a job is or was; a clean belongs to its agent before it is dispatched. */
export function agentOf(job: Job): AgentId | undefined {
  return job.assigned?.agent ?? (job.name === "clean" ? job.spec.on : undefined);
}

const sentences: Readonly<Record<CancelCause, string>> = {
  request: "on request",
  clean: "its build tree was taken away",
  reset: "the farm was reset",
  superseded: "a newer request for this configuration took its place",
  "prerequisite-failed": "its build failed, nothing was flashed",
  "prerequisite-cancelled": "its build was cancelled, nothing was flashed",
  "prerequisite-unknown": "how its build ended is not known, nothing was flashed",
  "not-askable": "nobody can ask the device which build it runs",
  "flashed-again": "another image went to the device",
  "rollout-aborted": "its rollout was aborted",
  restored: "the farm was restored from a backup, in which this was not done: ask for it again",
};

/** Why it was cancelled. */
export function causeSentence({ cause, backupAt }: Extract<Outcome, { kind: "cancelled" }>): string {
  if (backupAt === undefined) return sentences[cause];
  return `the farm was restored from a backup of ${instant(backupAt)}, in which this was not done: ask for it again`;
}

/** A question that nobody asks any more, because there was no flash: not worth a line. */
export function isMoot({ name, outcome }: Job): boolean {
  return name === "confirm" && outcome?.kind === "cancelled" && outcome.cause.startsWith("prerequisite");
}

/** The state with everything that the record says of it: `running on build-1`, `succeeded in 0.4 s: runs 2026.10.0 built …`. */
export function jobSentence(job: Job): string {
  const { state, outcome, assigned } = job;
  const place = agentOf(job);
  const agent = place === undefined ? "" : ` on ${place}`;
  switch (state) {
    case "held":
      if (job.name === "confirm") return `held: the device is asked again ${job.spec.afterMs / 1000} s after its flash`;
      if (job.name !== "clean") return "held until its build has succeeded";
      return `held${agent} until ${job.spec.trees === "all" ? "all work of the farm has ended" : "no build writes to its tree"}`;
    case "queued": {
      const earlier = job.earlier.at(-1);
      if (job.name === "clean") return `queued${agent}`;
      return earlier === undefined ? "queued" : shown(`queued again: ${describeFailure(earlier)}`);
    }
    case "dispatched":
      return `dispatched to ${assigned?.agent ?? "an agent"}`;
    case "running":
      return `running${agent}${job.attempt > 1 ? `, attempt ${job.attempt}` : ""}`;
    case "cancelling":
      return `cancelling: waits until everything of it${agent} has ended`;
    case "cancelled":
      return outcome?.kind === "cancelled" ? `cancelled: ${causeSentence(outcome)}` : "cancelled";
    case "succeeded":
      return shown(
        `succeeded${tookOf(job)}${job.name === "clean" ? agent : ""}${outcome === undefined ? "" : resultOf(outcome)}`,
      );
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
    const source = outcome.reusedFrom === undefined ? "" : `, as ${outcome.reusedFrom} had built it`;
    const main = images.find((image) => image.role === "ota") ?? images[0];
    const others = images.length > 1 ? ` and ${images.length - 1} more` : "";
    return main === undefined ? "" : `: ${main.name}${others}, ${size(main.bytes)}, for ${platform}${source}`;
  }
  if (outcome.kind === "cleaned") {
    return outcome.trees === 0 ? ": there was no build tree" : `: took ${count(outcome.trees, "build tree")} away`;
  }
  if (outcome.kind === "confirmed") return ": it still runs this build";
  if (outcome.kind !== "flashed") return "";
  const { report, wrote, level } = outcome;
  if (report !== undefined) {
    const had = wrote ? "runs" : "nothing to do, it runs";
    return `: ${had} ${report.esphomeVersion} built ${report.compilationTime}`;
  }
  if (level === "told") return ": it runs this build, says a person";
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
  const { failure } = job.outcome;
  if (failure.kind === "death-unproven") return deathAdvice(failure.job, failure.agent);
  const tail = tailOf(failure).map((line) => `    | ${shown(line)}`);
  const next = job.startedAt === undefined ? [] : [`    the whole log: flashyard logs ${jobRef(chain, job.name)}`];
  return [...tail, ...next];
}

/** An agent's new life is the proof that everything of its life before is dead. */
function deathAdvice(job: string, agent: string): readonly string[] {
  return [
    shown(`    ${job} may still run on ${agent}, so no build tree was touched`),
    shown(`    start the agent ${agent} again, which ends what is left of it, and then ask once more`),
  ];
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
