/**
 * Flashes chips of the ESP family with esptool, as a process of its own.
 *
 * 1. Nothing is written to a chip that is not the one that was named: our own look at the image, esptool's at the chip (`--chip`
 *    on every call), and a chip that esptool does not know is refused although esptool itself would go on.
 * 2. The fence `mayStart` is asked right before each program that writes is started; nothing is awaited between the two.
 * 3. Success is exit code 0 *and* a hash that was read back for every segment. What esptool prints only makes an effect worse.
 * 4. The slow rate is tried once, after the fast one failed; never after a chip or an image was refused, or somebody called it off.
 */
import { hasSucceeded } from "#toolchain/process-end.ts";
import type { Effect, Failure } from "#protocol/failure.ts";
import type { ProcessResult } from "#actor/subprocess.ts";
import type { StageLimit } from "#protocol/limits.ts";
import type { EspChip } from "#protocol/serial.ts";
import type { FlashPhase, FlashResult, SerialIdentity } from "#upload-agent/flasher.ts";
import type { Esptool } from "#upload-agent/serial/esptool-environment.ts";
import { EsptoolReport } from "#upload-agent/serial/esptool-output.ts";
import { judgeImage } from "#upload-agent/serial/image-header.ts";
import {
  failureOfTool,
  notBegun,
  refuseStart,
  runTool,
  type ToolImage,
  type ToolOptions,
  type ToolPort,
} from "#upload-agent/serial/serial-tool.ts";

/** ESPHome's own first rate, and what it falls back to. */
const fastBaud = 460_800;
const slowBaud = 115_200;
/** esptool's seven attempts at a chip that never answers take 107 s (measured); a board that resets answers at the first. */
const connectAttemptsMax = 2;
/** Two attempts take 7 s at worst, on a slow machine with Python's start. */
const identifyMsMax = 30_000;

export type Identified =
  | { readonly ok: true; readonly identity: SerialIdentity }
  | { readonly ok: false; readonly failure: Failure };

interface Try {
  readonly result: ProcessResult;
  readonly report: EsptoolReport;
}

export class EsptoolFlasher {
  readonly #tool: Esptool;
  readonly #port: ToolPort;
  readonly #chip: EspChip;

  constructor(tool: Esptool, port: ToolPort, chip: EspChip) {
    this.#tool = tool;
    this.#port = port;
    this.#chip = chip;
  }

  /**
   * Which chip is there, and its MAC address; the flash is not touched. Failures: `chip-mismatch`, `port-busy`, `port-missing`,
   * `device-unreachable` (nothing answers), `deadline`, `toolchain-missing`, `flasher-failed`.
   */
  async identify(options: ToolOptions): Promise<Identified> {
    options.onEvent({ kind: "phase", phase: "identifying" });
    const argv = [...this.#argv(slowBaud), "--no-stub", "read-mac"];
    const limit = { totalMs: Math.min(identifyMsMax, options.limit().totalMs) };
    const run = await this.#run(argv, limit, options);
    const { result, report } = run;
    const refusal = this.#refusal(run);
    if (refusal !== undefined) return { ok: false, failure: refusal };
    if (!hasSucceeded(result)) {
      if (report.couldNotConnect) return { ok: false, failure: this.#unreachable(result) };
      return { ok: false, failure: this.#failure(result, "identifying", "none") };
    }
    // Invariant 1: an answer that cannot be read is no answer.
    if (report.chip !== this.#chip) return { ok: false, failure: this.#mismatch(report.chip ?? "not known") };
    const identity: SerialIdentity = {
      chip: report.chip,
      ...(report.description === undefined ? {} : { description: report.description }),
      ...(report.mac === undefined ? {} : { mac: report.mac }),
    };
    options.onEvent({ kind: "identified", identity });
    return { ok: true, identity };
  }

  /** @returns why these images must not be written; undefined when they may. Nothing is started for it. */
  refuseImages(images: readonly ToolImage[]): Failure | undefined {
    if (images.length === 0)
      return { kind: "image-unsuitable", detail: "the build has no image for the start of the flash" };
    for (const { bytes, name, offset } of images) {
      const verdict = judgeImage(bytes, offset, this.#chip);
      if (verdict.kind === "unsuitable") return { kind: "image-unsuitable", detail: `${name}: ${verdict.detail}` };
      if (verdict.kind === "other-chip") return this.#mismatch(`${verdict.found}, for which ${name} was built`);
    }
    return undefined;
  }

  /**
   * Writes the images and lets the chip start. Failures as of `identify`, and `image-unsuitable`; each with the effect that it
   * leaves on the device: `none` before the write, `partial` from its begin on.
   * @param baud instead of the fast rate
   */
  async flash(images: readonly ToolImage[], baud: number | undefined, options: ToolOptions): Promise<FlashResult> {
    const unsuitable = this.refuseImages(images);
    if (unsuitable !== undefined) return { ok: false, failure: unsuitable };
    let effect: Effect = "none";
    for (const rate of new Set([baud ?? fastBaud, slowBaud])) {
      // Invariant 2.
      const refused = refuseStart("esptool", this.#port.id, effect, options);
      if (refused !== undefined) return { ok: false, failure: refused };
      const run = await this.#write(images, rate, options);
      const done = this.#success(run, images);
      if (done !== undefined) return done;
      if (run.report.mayHaveTouched) effect = "partial";
      // A refusal says that nothing was written: true of this rate, and not of the one before.
      const refusal = effect === "none" ? this.#refusal(run) : undefined;
      const failure = refusal ?? this.#failure(run.result, run.report.phase, effect);
      const isFinal = failure.kind !== "flasher-failed" || failure.exitCode === undefined || rate === slowBaud;
      if (isFinal) {
        const isSilent = effect === "none" && run.report.couldNotConnect;
        return { ok: false, failure: isSilent ? this.#unreachable(run.result) : failure };
      }
      options.onEvent({ kind: "line", text: `esptool failed at ${rate} baud: trying once more at ${slowBaud}` });
    }
    return { ok: false, failure: notBegun("esptool", this.#port.id, "connecting", effect, "no rate is left") };
  }

  async #write(images: readonly ToolImage[], rate: number, options: ToolOptions): Promise<Try> {
    options.onEvent({ kind: "phase", phase: "connecting" });
    const files = images.flatMap(({ offset, path }) => [`0x${offset.toString(16)}`, path]);
    // As ESPHome does it: the size that the chip's flash has goes into the bootloader's head, with a new hash.
    const argv = [...this.#argv(rate), "write-flash", "-z", "--flash-size", "detect", ...files];
    const totalBytes = images.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const bytesBefore = (count: number) => images.slice(0, count).reduce((sum, { bytes }) => sum + bytes.length, 0);
    let sentBytes = 0;
    return this.#run(argv, options.limit(), options, (percent, report) => {
      const segment = images[report.verified]?.bytes.length ?? 0;
      const now = bytesBefore(report.verified) + Math.floor((segment * percent) / 100);
      // A rate that failed has been at more already.
      sentBytes = Math.max(sentBytes, Math.min(now, totalBytes));
      options.onEvent({ kind: "progress", sentBytes, totalBytes });
    });
  }

  async #run(
    argv: readonly string[],
    limit: StageLimit,
    options: ToolOptions,
    onPercent?: (percent: number, report: EsptoolReport) => void,
  ): Promise<Try> {
    const report = new EsptoolReport();
    let phase = report.phase;
    const onLine = (line: string) => {
      const percent = report.line(line);
      if (percent === undefined) options.onEvent({ kind: "line", text: line });
      if (report.phase !== phase) {
        phase = report.phase;
        options.onEvent({ kind: "phase", phase });
      }
      if (percent !== undefined) onPercent?.(percent, report);
    };
    const result = await runTool({ argv, limit, onLine, variables: this.#tool.variables }, options);
    return { result, report };
  }

  /** Invariant 3. */
  #success({ result, report }: Try, images: readonly ToolImage[]): FlashResult | undefined {
    if (!hasSucceeded(result) || report.verified !== images.length) return undefined;
    return { ok: true, level: "committed", compression: "deflate", wireBytes: report.wireBytes };
  }

  /** What is known for certain from before the write, and is not tried again. */
  #refusal({ report }: Try): Failure | undefined {
    if (report.mayHaveTouched) return undefined;
    if (report.otherChip !== undefined) return this.#mismatch(report.otherChip);
    if (report.refusedImage !== undefined) return this.#mismatch(report.refusedImage);
    // The owner has looked whether the port is there; so somebody has it.
    if (report.couldNotOpen) {
      const detail = "esptool could not open it: another program uses it, or the agent may not";
      return { kind: "port-busy", port: this.#port.id, detail };
    }
    return undefined;
  }

  #argv(baud: number): readonly string[] {
    const attempts = ["--connect-attempts", String(connectAttemptsMax)];
    const resets = ["--before", "default-reset", "--after", "hard-reset"];
    return [
      ...this.#tool.argv,
      "--chip",
      this.#chip,
      "--port",
      this.#port.path,
      "--baud",
      String(baud),
      ...resets,
      ...attempts,
    ];
  }

  #mismatch(found: string): Failure {
    return { kind: "chip-mismatch", port: this.#port.id, wanted: this.#chip, found };
  }

  #unreachable(result: ProcessResult): Failure {
    const said = result.tail.findLast((line) => line.includes("Failed to connect")) ?? "no answer";
    return { kind: "device-unreachable", address: this.#port.id, detail: said.replace(/^.*?Failed/, "failed") };
  }

  #failure(result: ProcessResult, phase: FlashPhase, effect: Effect): Failure {
    return failureOfTool({ tool: "esptool", port: this.#port.id, phase, effect, result });
  }
}
