/** How a process ended that should have succeeded: whether it did, as a failure, and in one line for a failure's detail. */
import type { ProcessEnd, ProcessResult } from "#actor/subprocess.ts";
import type { Failure } from "#protocol/failure.ts";
import type { Stage } from "#protocol/limits.ts";

/** Whether a program says of itself that it did what it should, and is gone; what a device holds is proved by more than that. */
export function hasSucceeded({ end, allGone }: ProcessResult): boolean {
  return end.kind === "exited" && end.exitCode === 0 && allGone;
}

/** @param stage of a job; absent for what the command line runs by itself. */
export function deadlineOf({ limit, limitMs }: Extract<ProcessEnd, { kind: "deadline" }>, stage?: Stage): Failure {
  return { kind: "deadline", ...(stage === undefined ? {} : { stage }), limit, limitMs, effect: "none" };
}

/** @returns e.g. `exit code 1: Error: the virtual environment was not created`, at most 300 characters. */
export function endOfProcess(result: ProcessResult): string {
  const last = result.tail.findLast((line) => line.trim() !== "")?.trim();
  return `${endOf(result)}${last === undefined ? "" : `: ${last}`}`.slice(0, 300);
}

function endOf({ end, allGone }: ProcessResult): string {
  if (!allGone) return "a process of it could not be killed";
  switch (end.kind) {
    case "exited":
      return `exit code ${end.exitCode}`;
    case "signalled":
      return `killed by ${end.signal}`;
    case "aborted":
      return "called off";
    case "over-limit":
      return `over its limit of ${end.reached.resource}`;
    case "deadline":
      return end.limit === "silence" ? `silent for ${end.limitMs / 1000} s` : `not done after ${end.limitMs / 1000} s`;
    case "not-started":
      return `could not be started (${end.detail})`;
  }
}
