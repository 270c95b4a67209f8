/** How a process that should have succeeded ended, in one line for a failure's detail. */
import type { ProcessResult } from "#actor/subprocess.ts";

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
    case "deadline":
      return end.limit === "silence" ? `silent for ${end.limitMs / 1000} s` : `not done after ${end.limitMs / 1000} s`;
    case "not-started":
      return `could not be started (${end.detail})`;
  }
}
