/** Flashes with a command that the agent's owner has written down (`upload-agent/serial/flasher-file.ts`). Its exit code is its word. */
import { hasSucceeded } from "#toolchain/process-end.ts";
import type { Effect } from "#protocol/failure.ts";
import type { StageLimit } from "#protocol/limits.ts";
import type { FlashResult } from "#upload-agent/flasher.ts";
import type { CommandFlasherSpec } from "#upload-agent/serial/flasher-file.ts";
import {
  failureOfTool,
  refuseStart,
  runTool,
  type ToolImage,
  type ToolOptions,
  type ToolPort,
} from "#upload-agent/serial/serial-tool.ts";

export class CommandFlasher {
  readonly #name: string;
  readonly #spec: CommandFlasherSpec;
  readonly #port: ToolPort;

  constructor(name: string, spec: CommandFlasherSpec, port: ToolPort) {
    this.#name = name;
    this.#spec = spec;
    this.#port = port;
  }

  /** A command that never looks at the port, like a copy to a folder, works without one. */
  static usesPort(spec: CommandFlasherSpec): boolean {
    return spec.argv.some((argument) => argument.includes("{port}"));
  }

  /**
   * @param folder holds every image of the build under its own name, and the command runs in it
   * Failures: `toolchain-missing` (the command is not there), `deadline`, `flasher-failed`, with what the owner says of a cut.
   */
  async flash(image: ToolImage, folder: string, options: ToolOptions): Promise<FlashResult> {
    const refused = refuseStart(this.#name, this.#port.id, "none", options);
    if (refused !== undefined) return { ok: false, failure: refused };
    options.onEvent({ kind: "phase", phase: "sending" });
    const totalBytes = image.bytes.length;
    const values = { port: this.#port.path, image: image.path, dir: folder };
    const argv = this.#spec.argv.map((argument) =>
      argument.replaceAll(/\{(port|image|dir)\}/g, (_, place: keyof typeof values) => values[place]),
    );
    const pattern = this.#spec.progress === undefined ? undefined : new RegExp(this.#spec.progress);
    let sentBytes = 0;
    const result = await runTool(
      {
        argv,
        cwd: folder,
        limit: this.#limit(options),
        onLine: (text) => {
          options.onEvent({ kind: "line", text });
          const percent = Number(pattern?.exec(text)?.[1] ?? Number.NaN);
          // Commands count from 0 again for their verification.
          if (!(percent <= 100)) return;
          sentBytes = Math.max(sentBytes, Math.floor((totalBytes * percent) / 100));
          options.onEvent({ kind: "progress", sentBytes, totalBytes });
        },
      },
      options,
    );
    if (hasSucceeded(result)) return { ok: true, level: "committed", compression: "none", wireBytes: totalBytes };
    const effect: Effect = result.end.kind === "not-started" ? "none" : this.#spec["effect-when-cut"];
    const remedy = "install it on the agent's machine, or correct its argv in FLASHYARD_FLASHERS";
    return {
      ok: false,
      failure: failureOfTool({ tool: this.#name, port: this.#port.id, phase: "sending", effect, result, remedy }),
    };
  }

  /** The owner's limits, and the shorter total of both. */
  #limit(options: ToolOptions): StageLimit {
    const { "silence-seconds": silence, "total-seconds": total } = this.#spec;
    const limit = options.limit();
    return {
      totalMs: total === undefined ? limit.totalMs : Math.min(limit.totalMs, 1_000 * total),
      ...(silence === undefined ? {} : { silenceMs: 1_000 * silence }),
    };
  }
}
