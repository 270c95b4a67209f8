/** What the exit code of `flashyard` says; scripts rely on it. */

export const exitCodes = {
  done: 0,
  failed: 1,
  badInput: 2,
  unknown: 3,
  cancelled: 4,
  unreachable: 5,
  bug: 70,
  detached: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

const meanings: Readonly<Record<ExitCode, string>> = {
  0: "everything that was asked for is done",
  1: "a job failed (doctor: a problem was found; cancel: it was too late; rename: the files were not swapped)",
  2: "wrong use, or an input that cannot be used",
  3: "an outcome is unknown: ask the device before trying again",
  4: "a job was cancelled",
  5: "the farm cannot be reached",
  70: "a bug in flashyard",
  130: "detached by Ctrl-C; accepted jobs go on",
};

/** The table as `flashyard --help` prints it. */
export function exitCodeTable(): string {
  const rows = Object.entries(meanings).map(([code, meaning]) => `  ${code.padStart(3)}  ${meaning}`);
  return ["Exit codes:", ...rows, "Where several apply, the first of 3, 1, 2, 4 is taken."].join("\n");
}

/** Nobody knowing outweighs a failure, a failure an input that was left out, and that a job that was cancelled. */
const order: readonly ExitCode[] = [exitCodes.unknown, exitCodes.failed, exitCodes.badInput, exitCodes.cancelled];

/** The one code for everything that happened. */
export function worstOf(codes: readonly ExitCode[]): ExitCode {
  return order.find((code) => codes.includes(code)) ?? exitCodes.done;
}
