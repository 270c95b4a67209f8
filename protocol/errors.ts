/**
 * The four errors that may be thrown in the farm. What is expected to go wrong is a value (`protocol/failure.ts`);
 * an exception means one of these, and each asks for another reaction of whoever catches it.
 */

type Facts = Readonly<Record<string, unknown>>;

class FarmError extends Error {
  /** Stable, machine-readable name of what went wrong, e.g. `port-taken`. */
  readonly code: string;
  readonly facts: Facts;

  constructor(code: string, message: string, options: { cause?: unknown; facts?: Facts } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.facts = options.facts ?? {};
  }
}

/** A bug of ours. The process dies and is rebuilt from the records. */
export class InvariantError extends FarmError {}

/** The caller's mistake. The message says what, where and what to do next; the CLI prints it as it is. */
export class UsageError extends FarmError {}

/** A message or record that cannot be decoded. It is parked, never guessed at. */
export class WireError extends FarmError {}

/** The world is away (NATS, disk, network). The shell waits and tries again. */
export class UnavailableError extends FarmError {}

/** True for the four errors above; anything else that is thrown is foreign and has not been translated yet. */
export function isFarmError(error: unknown): error is FarmError {
  return error instanceof FarmError;
}

/** The message of whatever was thrown, for a log line or a sentence. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
