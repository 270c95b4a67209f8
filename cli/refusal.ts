/** An input that cannot be used, and why. It does not stop the others. */
import type { UsageError } from "#protocol/errors.ts";
import { describeFailure, tailOf } from "#protocol/failure.ts";
import type { Stop } from "#toolchain/attempt.ts";
import { shown } from "#cli/clean-text.ts";
import type { Terminal } from "#cli/terminal.ts";

export interface Refusal {
  readonly file: string;
  readonly message: string;
  /** The tool's own last lines. */
  readonly tail: readonly string[];
}

export function refusal(file: string, message: string): Refusal {
  return { file, message, tail: [] };
}

/** The refusal behind a failed step; undefined when the step was called off. */
export function refusalOf(file: string, stop: Stop): Refusal | undefined {
  if (stop.aborted) return undefined;
  return { file, message: describeFailure(stop.failure), tail: tailOf(stop.failure) };
}

/** What a file asks for in vain, as its refusal, which names the file itself. */
export function refusalFor(file: string, { message }: UsageError): Refusal {
  const prefix = `${file}: `;
  return refusal(file, message.startsWith(prefix) ? message.slice(prefix.length) : message);
}

export function showRefusals(terminal: Terminal, refused: readonly Refusal[], isJson: boolean): void {
  for (const { file, message, tail } of refused) {
    if (isJson) {
      terminal.json({ kind: "refused", file, message, tail });
      continue;
    }
    terminal.note(terminal.paint("red", shown(`${file}: ${message}`)));
    for (const line of tail) terminal.note(`    | ${shown(line)}`);
  }
}
