/** What the end of chains means for the exit code and for the last line. Pure. */
import { type Chain, jobsOf } from "#protocol/chain.ts";
import type { Job } from "#protocol/job.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";

/** The code of a chain whose jobs have ended; a failed build's held upload is cancelled and does not count by itself. */
export function codeOfChain(chain: Chain): ExitCode {
  return worstOf(jobsOf(chain).map(codeOfJob));
}

function codeOfJob({ state }: Job): ExitCode {
  if (state === "failed") return exitCodes.failed;
  if (state === "unknown") return exitCodes.unknown;
  return state === "cancelled" ? exitCodes.cancelled : exitCodes.done;
}

const words: readonly (readonly [ExitCode, string])[] = [
  [exitCodes.done, "done"],
  [exitCodes.failed, "failed"],
  [exitCodes.unknown, "unknown"],
  [exitCodes.cancelled, "cancelled"],
];

/** `12 done, 1 failed, 2 not sent`; `refused` counts the inputs that could not be used. */
export function summarySentence(codes: readonly ExitCode[], refused: number): string {
  const parts = words
    .map(([code, word]) => [codes.filter((found) => found === code).length, word] as const)
    .filter(([number]) => number > 0)
    .map(([number, word]) => `${number} ${word}`);
  return [...parts, ...(refused === 0 ? [] : [`${refused} not sent`])].join(", ");
}
