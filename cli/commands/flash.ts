/** `flashyard flash`: flashes what any build has made over a serial port, without a configuration of ESPHome. */
import type { ArtifactManifest } from "#protocol/artifact.ts";
import type { Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { SerialTarget } from "#protocol/job.ts";
import { EspChip, SerialTool } from "#protocol/serial.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { flashWishesFrom } from "#cli/flash-wishes.ts";
import { refusal, showRefusals } from "#cli/refusal.ts";
import { ago } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import { newChainId, submitAndFollow } from "#cli/submit.ts";

export interface FlashCommandOptions {
  readonly serial: string;
  readonly chip?: string;
  readonly avrdude?: string;
  readonly flasher?: string;
  readonly baud?: number;
  readonly image?: string;
  readonly on?: string;
  readonly between?: string;
  readonly priority?: Priority;
  readonly detach?: boolean;
  readonly json?: boolean;
}

export async function runFlash(session: Session, reference: string, options: FlashCommandOptions): Promise<ExitCode> {
  const { json: isJson = false, detach: isDetached = false, priority = "interactive" } = options;
  const { port, on, window } = flashWishesFrom(options);
  const tool = toolFrom(options);
  await using farm = await Farm.open(session);
  const build = await farm.ask({ v: 1, kind: "newest-build", reference }, "newest-build");
  const { manifest } = build;
  const chosen = choiceOf(manifest, tool, options.image);
  if (typeof chosen === "string") {
    showRefusals(session.terminal, [refusal(reference, chosen)], isJson);
    return exitCodes.badInput;
  }
  session.terminal.note(`flashing what ${build.chain} built ${ago(build.builtAt, session.clock.now())}`);
  const { configuration } = build;
  const target = SerialTarget.parse({ kind: "serial", port, tool: chosen, name: configuration });
  const upload = {
    target,
    manifest,
    ...(on === undefined ? {} : { on }),
    ...(window === undefined ? {} : { timing: { window } }),
  };
  const request = { id: newChainId(session), kind: "upload" as const, configuration, upload, priority };
  const { code } = await submitAndFollow(session, farm, [request], { isDetached, isJson, refused: [] });
  return code;
}

/** @throws UsageError unless exactly one program is named, and can be */
function toolFrom({ chip, avrdude, flasher, baud }: FlashCommandOptions): SerialTool {
  if ([chip, avrdude, flasher].filter((one) => one !== undefined).length !== 1) {
    throw new UsageError("one-tool", "say how it is flashed: --chip (esptool), --avrdude, or --flasher, one of them");
  }
  if (flasher !== undefined && baud !== undefined) {
    const message = `--baud ${baud} does nothing with --flasher: the rate stands in the command itself, in the agent's flashers (docs/serial.md)`;
    throw new UsageError("bad-together", message);
  }
  const speed = baud === undefined ? {} : { baud };
  const [part = "", programmer = ""] = avrdude?.split(":") ?? [];
  const parsed = SerialTool.safeParse(
    chip !== undefined
      ? { kind: "esptool", chip, ...speed }
      : avrdude !== undefined
        ? { kind: "avrdude", part, programmer, ...speed }
        : { kind: "command", flasher },
  );
  if (parsed.success) return parsed.data;
  if (parsed.error.issues.some(({ path }) => path[0] === "baud")) {
    const rates = chip === undefined ? "avrdude takes 300 to 2000000" : "esptool takes 9600 to 5000000";
    throw new UsageError("bad-tool", `--baud ${baud}: ${rates}`);
  }
  const known = `--chip is one of ${EspChip.options.join(", ")}; --avrdude is PART:PROGRAMMER as avrdude calls them, e.g. m328p:arduino`;
  throw new UsageError("bad-tool", `${JSON.stringify(chip ?? avrdude ?? flasher)} cannot be used: ${known}`);
}

/**
 * The image that is named goes to the device, of a build with any command also the only one; without a word the program takes what is
 * made for it. @returns a sentence that says why there is none
 */
function choiceOf({ images }: ArtifactManifest, tool: SerialTool, name: string | undefined): SerialTool | string {
  const found = images.filter((image) => name === undefined || image.name === name);
  const listed = images.map((image) => image.name).join(", ");
  if (found.length === 0) return `its build has no image ${JSON.stringify(name)}; it has ${listed}`;
  const isMade = tool.kind !== "esptool" || found.some(({ role }) => role === "factory");
  const [only, ...others] = found;
  if (!isMade && others.length > 0) return `its build has several images (${listed}): name one with --image`;
  return name === undefined && isMade ? tool : { ...tool, image: only?.name };
}
