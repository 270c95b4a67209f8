/** What a step of building gives back: its result, the failure that ended it, or the word that it was called off. */
import { messageOf } from "#protocol/errors.ts";
import type { Failure } from "#protocol/failure.ts";

/** `aborted`: the caller's signal fired, and nothing that the step had started is left running. */
export type Stop =
  | { readonly ok: false; readonly aborted: true }
  | { readonly ok: false; readonly aborted: false; readonly failure: Failure };

export type Attempt<T extends object> = ({ readonly ok: true } & T) | Stop;

export const abortedStop: Stop = { ok: false, aborted: true };

export function failed(failure: Failure): Stop {
  return { ok: false, aborted: false, failure };
}

/**
 * The failure behind a foreign error of the file system: a full disk is `disk-full` (another machine may have room),
 * anything else `internal`.
 */
export function fileFailure(error: unknown, path: string): Failure {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === "ENOSPC" || code === "EDQUOT") return { kind: "disk-full", path };
  return { kind: "internal", detail: `${path}: ${messageOf(error)}` };
}
