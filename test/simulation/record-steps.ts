/** Which steps a committed job may make: those of the table of states, several at once, and what a person settles. */
import { isDeepStrictEqual } from "node:util";
import { type ChainId, jobRef } from "#protocol/ids.ts";
import { isTerminal, type Job, nextStates } from "#protocol/job.ts";

/** What is wrong with a step of a record; undefined for a sound one. */
export function faultOfStep(id: ChainId, before: Job, after: Job): string | undefined {
  const isSettled = before.state === "unknown" && isPersonsWord(after);
  if (isTerminal(before.state) && !isDeepStrictEqual(before, after) && !isSettled) {
    return `${jobRef(id, after.name)} was ${before.state} and changed`;
  }
  // One commit may hold several steps, so only what no path can do is wrong.
  const isPossible = before.state === after.state || isReachable(before.state, after.state);
  return isPossible ? undefined : `${jobRef(id, after.name)} went from ${before.state} to ${after.state}`;
}

/** Whether a job ended by what a person has said. */
export function isPersonsWord({ outcome }: Job): boolean {
  if (outcome?.kind === "flashed") return outcome.level === "told";
  return (
    outcome?.kind === "failed" && outcome.failure.kind === "not-running" && outcome.failure.found.includes("person")
  );
}

function isReachable(from: Job["state"], to: Job["state"], seen = new Set<Job["state"]>()): boolean {
  if (from === to) return true;
  if (seen.has(from)) return false;
  seen.add(from);
  return nextStates[from].some((next) => isReachable(next, to, seen));
}
