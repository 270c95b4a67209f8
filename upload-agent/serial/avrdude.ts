/**
 * Flashes AVR parts with avrdude, over a bootloader or a programmer. Its verification stays on: success is exit code 0 *and* bytes that
 * were read back. It compares the part's signature by itself, and ends without a write when another part answers.
 */
import { hasSucceeded } from "#toolchain/process-end.ts";
import type { ProcessResult } from "#actor/subprocess.ts";
import type { Failure } from "#protocol/failure.ts";
import type { StageLimit } from "#protocol/limits.ts";
import type { SerialTool } from "#protocol/serial.ts";
import type { FlashResult } from "#upload-agent/flasher.ts";
import { AvrdudeReport } from "#upload-agent/serial/avrdude-output.ts";
import type { Identified } from "#upload-agent/serial/esptool.ts";
import {
  failureOfTool,
  refuseStart,
  runTool,
  type ToolImage,
  type ToolOptions,
  type ToolPort,
} from "#upload-agent/serial/serial-tool.ts";

export type AvrdudeTool = Extract<SerialTool, { readonly kind: "avrdude" }>;

const remedy = "install it (Debian: apt install avrdude) or name it in FLASHYARD_AVRDUDE";
/** avrdude tries ten times to be understood, six seconds each (measured, 7.1). */
const identifyMsMax = 90_000;

export class AvrdudeFlasher {
  readonly #program: string;
  readonly #port: ToolPort;
  readonly #tool: AvrdudeTool;

  /** @param program FLASHYARD_AVRDUDE, or `avrdude` */
  constructor(program: string, port: ToolPort, tool: AvrdudeTool) {
    this.#program = program;
    this.#port = port;
    this.#tool = tool;
  }

  /** Which part answers; nothing is written. Failures as of `flash`. */
  async identify(options: ToolOptions): Promise<Identified> {
    options.onEvent({ kind: "phase", phase: "identifying" });
    const limit = { totalMs: Math.min(identifyMsMax, options.limit().totalMs) };
    const { result, report } = await this.#run(["-n"], limit, options);
    const failure = this.#failureOf(result, report);
    if (failure !== undefined) return { ok: false, failure };
    const identity = { chip: this.#tool.part };
    options.onEvent({ kind: "identified", identity });
    return { ok: true, identity };
  }

  /**
   * Failures: `image-unsuitable`, `chip-mismatch`, `port-missing`, `port-busy`, `device-unreachable`, `toolchain-missing`, `deadline`,
   * `flasher-failed`; with the effect `none` before the chip is erased, and `partial` from there on.
   */
  async flash(image: ToolImage, options: ToolOptions): Promise<FlashResult> {
    const problem = hexProblem(image.bytes);
    if (problem !== undefined)
      return { ok: false, failure: { kind: "image-unsuitable", detail: `${image.name}: ${problem}` } };
    const refused = refuseStart("avrdude", this.#port.id, "none", options);
    if (refused !== undefined) return { ok: false, failure: refused };
    options.onEvent({ kind: "phase", phase: "connecting" });
    const totalBytes = image.bytes.length;
    const { result, report } = await this.#run(["-U", `flash:w:${image.path}:i`], options.limit(), options, (percent) =>
      options.onEvent({ kind: "progress", sentBytes: Math.floor((totalBytes * percent) / 100), totalBytes }),
    );
    const failure = this.#failureOf(result, report);
    if (failure !== undefined) return { ok: false, failure };
    const wireBytes = report.verifiedBytes;
    if (wireBytes === undefined) return { ok: false, failure: this.#failed(result, report) };
    return { ok: true, level: "committed", compression: "none", wireBytes };
  }

  async #run(
    action: readonly string[],
    limit: StageLimit,
    options: ToolOptions,
    onPercent?: (percent: number) => void,
  ): Promise<{ readonly result: ProcessResult; readonly report: AvrdudeReport }> {
    const report = new AvrdudeReport();
    const { part, programmer, baud } = this.#tool;
    const rate = baud === undefined ? [] : ["-b", String(baud)];
    const argv = [this.#program, "-p", part, "-c", programmer, "-P", this.#port.path, ...rate, ...action];
    let phase = report.phase;
    const result = await runTool(
      {
        argv,
        limit,
        onLine: (text) => options.onEvent({ kind: "line", text }),
        onBytes: (chunk) => {
          const percent = report.bytes(chunk);
          if (report.phase !== phase) {
            phase = report.phase;
            options.onEvent({ kind: "phase", phase });
          }
          if (percent !== undefined) onPercent?.(percent);
        },
      },
      options,
    );
    return { result, report };
  }

  /** @returns undefined after exit code 0. */
  #failureOf(result: ProcessResult, report: AvrdudeReport): Failure | undefined {
    if (hasSucceeded(result)) return undefined;
    if (result.end.kind === "exited" && !report.mayHaveTouched) {
      const port = this.#port.id;
      const said = result.tail.findLast((line) => /error|sync|open/i.test(line)) ?? "avrdude could not open it";
      if (report.refusedPort === "missing") return { kind: "port-missing", port, detail: said };
      if (report.refusedPort === "busy") return { kind: "port-busy", port, detail: said };
      if (report.isOtherPart) {
        return { kind: "chip-mismatch", port, wanted: this.#tool.part, found: report.part ?? "another part" };
      }
      if (report.couldNotConnect) return { kind: "device-unreachable", address: port, detail: said };
    }
    return this.#failed(result, report);
  }

  #failed(result: ProcessResult, report: AvrdudeReport): Failure {
    const effect = report.mayHaveTouched ? "partial" : "none";
    return failureOfTool({ tool: "avrdude", port: this.#port.id, phase: report.phase, effect, result, remedy });
  }
}

/** Intel HEX: lines that begin with a colon, whose bytes add up to 0, the last one an end record. */
function hexProblem(bytes: Uint8Array): string | undefined {
  const lines = Buffer.from(bytes).toString("latin1").trimEnd().split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (!/^:([0-9A-Fa-f]{2}){5,}$/.test(line)) return `line ${index + 1} is not Intel HEX`;
    const record = Buffer.from(line.slice(1), "hex");
    if (record.length !== (record[0] ?? 0) + 5) return `line ${index + 1} is cut off`;
    if ((record.reduce((sum, byte) => sum + byte, 0) & 0xff) !== 0) return `line ${index + 1} has a wrong checksum`;
  }
  return lines.at(-1)?.slice(7, 9) === "01" ? undefined : "it has no end record";
}
