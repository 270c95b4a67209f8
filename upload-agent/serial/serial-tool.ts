/** What all programs that flash over a port have in common: how they are run, what they are told, and what their end means. */
import type { Clock } from "#actor/clock.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment, type ProcessOptions, type ProcessResult, runProcess } from "#actor/subprocess.ts";
import type { Effect, Failure } from "#protocol/failure.ts";
import type { StageLimit } from "#protocol/limits.ts";
import type { FlashEvent, FlashPhase } from "#upload-agent/flasher.ts";

/** The port at hand. */
export interface ToolPort {
  /** As people and records call it. */
  readonly id: string;
  readonly path: string;
}

/** A file that the tool is to write. */
export interface ToolImage {
  readonly path: string;
  readonly name: string;
  readonly bytes: Uint8Array;
  /** In the flash. */
  readonly offset: number;
}

export interface ToolOptions {
  /** Before the write: ends without effect. During it: the tool is ended, and the device holds a partial image. */
  readonly signal: AbortSignal;
  /** Whether this flash still has the right to happen; asked right before each start of a program that writes. */
  mayStart(): boolean;
  /** Told synchronously; must not throw. */
  onEvent(event: FlashEvent): void;
  /** What a program that is started now may still take. */
  limit(): StageLimit;
  readonly clock: Clock;
  readonly ledger?: GroupLedger;
}

/** No colours, no bars that redraw themselves, and every line when it is printed. */
const quietVariables: Readonly<Record<string, string>> = {
  NO_COLOR: "1",
  TERM: "dumb",
  COLUMNS: "120",
  PYTHONUNBUFFERED: "1",
  PYTHONUTF8: "1",
};

export interface ToolRun extends Pick<ProcessOptions, "argv" | "cwd" | "onLine" | "onBytes"> {
  readonly variables?: Readonly<Record<string, string>>;
  readonly limit: StageLimit;
}

export function runTool(
  { variables, limit, ...run }: ToolRun,
  { clock, ledger, signal }: Pick<ToolOptions, "signal" | "clock" | "ledger">,
): Promise<ProcessResult> {
  return runProcess({
    ...run,
    ...limit,
    env: { ...plainEnvironment(), ...quietVariables, ...variables },
    signal,
    clock,
    ...(ledger === undefined ? {} : { ledger }),
  });
}

export interface ToolEnd {
  /** `esptool`, `avrdude`, the command's name. */
  readonly tool: string;
  readonly port: string;
  readonly phase: FlashPhase;
  readonly effect: Effect;
  readonly result: ProcessResult;
  /** What to install where the program is not there. */
  readonly remedy?: string;
}

/**
 * The failure of a program that did not do what it should, whatever its exit code is. A process that could not be killed may still
 * write, so then nobody knows what the device holds.
 */
export function failureOfTool({ tool, port, phase, effect, result, remedy }: ToolEnd): Failure {
  const { end, tail, allGone } = result;
  if (!allGone) {
    const said = [...tail.slice(1), `a process of ${tool} could not be killed`];
    return { kind: "flasher-failed", tool, port, phase, effect: effect === "none" ? "uncertain" : effect, tail: said };
  }
  switch (end.kind) {
    case "not-started": {
      if (effect !== "none")
        return { kind: "flasher-failed", tool, port, phase, effect, tail: [end.detail.slice(0, 400)] };
      const detail = remedy === undefined ? end.detail : `${end.detail}; ${remedy}`;
      return { kind: "toolchain-missing", missing: tool, detail: detail.slice(0, 400) };
    }
    case "deadline": {
      const stage = phase === "identifying" ? "checking" : "flashing";
      return { kind: "deadline", stage, limit: end.limit, limitMs: end.limitMs, effect };
    }
    case "exited":
      return { kind: "flasher-failed", tool, port, phase, exitCode: end.exitCode, effect, tail: [...tail] };
    case "aborted":
    case "over-limit":
    case "signalled":
      return { kind: "flasher-failed", tool, port, phase, effect, tail: [...tail] };
  }
}

/** Before a program that writes is started; nothing may be awaited between the two. @returns why it must not be started */
export function refuseStart(
  tool: string,
  port: string,
  effect: Effect,
  options: Pick<ToolOptions, "signal" | "mayStart">,
): Failure | undefined {
  if (options.signal.aborted) return notBegun(tool, port, "connecting", effect, "cancelled");
  if (options.mayStart()) return undefined;
  return notBegun(tool, port, "connecting", effect, "the right to flash has run out");
}

/** Called off, or without the right to flash any more, before a program was started. */
export function notBegun(tool: string, port: string, phase: FlashPhase, effect: Effect, why: string): Failure {
  return { kind: "flasher-failed", tool, port, phase, effect, tail: [why] };
}
