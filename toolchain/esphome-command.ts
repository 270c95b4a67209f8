/** Running one ESPHome command to its end, with its output read and its failures classified. */
import type { GroupLedger } from "#actor/process-group.ts";
import { type Confinement, runProcess, type ProcessEnd } from "#actor/subprocess.ts";
import type { Failure } from "#protocol/failure.ts";
import type { Stage } from "#protocol/limits.ts";
import { abortedStop, failed, type Attempt } from "#toolchain/attempt.ts";
import type { EsphomeEnvironment } from "#toolchain/esphome-environment.ts";
import { deadlineOf, endOfProcess } from "#toolchain/process-end.ts";
import type { Redact } from "#toolchain/redaction.ts";
import { esphomeFailure, ToolOutput } from "#toolchain/tool-output.ts";

export interface EsphomeCommand {
  readonly env: EsphomeEnvironment;
  /** Arguments after `esphome`. */
  readonly args: readonly string[];
  /** Where it runs, and what a full disk is reported for. */
  readonly folder: string;
  readonly silenceMs: number;
  readonly totalMs: number;
  /** Of a job: what a deadline is reported for. */
  readonly stage?: Stage;
  readonly signal?: AbortSignal | undefined;
  readonly ledger?: GroupLedger | undefined;
  /** Cleaned lines of both streams; not called for the standard output when `keepsStdout`. */
  readonly onLine?: ((line: string) => void) | undefined;
  /** The standard output is the answer and holds secrets: it is returned and goes nowhere else when the command succeeds. */
  readonly keepsStdout?: boolean;
  /** Keeps the secrets of a bundle out of its lines and its failure; absent: there is no bundle. */
  readonly redact?: Redact;
  /** How it is started where it runs foreign code; absent: as it is. */
  readonly confinement?: Confinement;
}

const unconfined: Confinement = (start) => start;

/** Failures: those of `esphomeFailure`, `deadline`, `toolchain-missing` when it cannot be started. */
export async function runEsphome(command: EsphomeCommand): Promise<Attempt<{ readonly stdout: string }>> {
  const output = new ToolOutput(command.redact);
  const stdout: Buffer[] = [];
  const { confinement = unconfined } = command;
  const argv = [command.env.esphome, ...command.args];
  const result = await runProcess({
    ...confinement({ argv, cwd: command.folder, env: command.env.variables }),
    silenceMs: command.silenceMs,
    totalMs: command.totalMs,
    onLine: (line, stream) => {
      const shown = output.push(line);
      if (command.keepsStdout !== true || stream === "stderr") command.onLine?.(shown);
    },
    onBytes: (chunk, stream) => {
      if (command.keepsStdout === true && stream === "stdout") stdout.push(chunk);
    },
    ...(command.signal === undefined ? {} : { signal: command.signal }),
    ...(command.ledger === undefined ? {} : { ledger: command.ledger }),
  });
  if (!result.allGone) {
    return failed({ kind: "internal", detail: `esphome ${command.args[0] ?? ""}: a process of it survived SIGKILL` });
  }
  if (result.end.kind === "exited") {
    if (result.end.exitCode === 0) return { ok: true, stdout: Buffer.concat(stdout).toString("utf8") };
    return failed(esphomeFailure(result.end.exitCode, output, command.folder));
  }
  if (result.end.kind === "aborted") return abortedStop;
  const tool = `ESPHome ${command.env.version}`;
  return failed(failureOfEnd(result.end, endOfProcess(result), tool, output.tail(), command.stage));
}

/** The failure of a tool that neither exited by itself nor was called off. */
export function failureOfEnd(
  end: Exclude<ProcessEnd, { kind: "exited" | "aborted" }>,
  detail: string,
  tool: string,
  tail: readonly string[],
  stage?: Stage,
): Failure {
  switch (end.kind) {
    case "deadline":
      return deadlineOf(end, stage);
    case "over-limit":
      return { kind: "limit-exceeded", ...end.reached };
    case "not-started":
      return { kind: "toolchain-missing", missing: tool, detail };
    case "signalled":
      // The kernel's out-of-memory killer, mostly. 128 + n is how a shell would report it; the line says which signal.
      return {
        kind: "compiler-exit",
        exitCode: 128,
        tail: [...tail.slice(-39), `${tool} was killed by ${end.signal}`],
      };
  }
}
