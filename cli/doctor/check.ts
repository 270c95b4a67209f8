/** A fact with its judgement, and what to do about it. */
import { isFarmError, messageOf } from "#protocol/errors.ts";

export interface Check {
  readonly name: string;
  readonly state: "ok" | "warning" | "problem";
  /** What was found. */
  readonly found: string;
  /** What to do about it, in one sentence; absent when all is well. */
  readonly fix?: string;
}

export const ok = (name: string, found: string): Check => ({ name, state: "ok", found });
export const warning = (name: string, found: string, fix: string): Check => ({ name, state: "warning", found, fix });
export const problem = (name: string, found: string, fix: string): Check => ({ name, state: "problem", found, fix });

/** A fact that could not be had. Throws what is none of our errors. */
export function failedCheck(name: string, error: unknown, fix: string): Check {
  if (!isFarmError(error)) throw error;
  return problem(name, messageOf(error), fix);
}
