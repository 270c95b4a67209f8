/**
 * What a configuration asks of the farm itself: a block `.flashyard:` in its file, over the `flashyard.yaml` of its folder. ESPHome
 * passes over keys that begin with a dot (tried with 2026.10.0), so that the file stays one for ESPHome alone as well.
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseDocument } from "yaml";
import { z } from "zod";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { AgentId, Label } from "#protocol/ids.ts";
import { Medium, OtaEncryption } from "#protocol/job.ts";
import { SandboxLevel } from "#protocol/sandbox.ts";
import { FlasherName, PortId } from "#protocol/serial.ts";
import { parseWindow } from "#protocol/timing.ts";
import { VersionWish } from "#cli/esphome-version.ts";

/** The folder's own file; no configuration of a device. */
export const folderSettingsName = "flashyard.yaml";

const labels = z.preprocess((value) => (typeof value === "string" ? [value] : value), z.array(Label).max(8));
const medium = z
  .string()
  .regex(/^(wifi|ethernet|thread|serial)(:.{1,40})?$/, "wifi, ethernet, thread or thread:BORDER-ROUTER")
  .transform((text) => {
    const [kind, segment] = text.split(/:(.*)/);
    return Medium.parse({ kind, ...(segment === undefined ? {} : { segment }) });
  });

// All values are read as text.
const truth = z.enum(["true", "false"]).transform((text) => text === "true");
const numeric = (schema: z.ZodNumber) =>
  z.preprocess((value) => (typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value), schema);
/** Hours of this machine's clock. */
export const LocalWindow = z.string().transform((text, context) => {
  const parsed = parseWindow(text, Intl.DateTimeFormat().resolvedOptions().timeZone);
  if (parsed === undefined) context.addIssue("a time of the day is written as 02:00-05:00");
  return parsed ?? z.NEVER;
});

const DeviceSettingsShape = z.strictObject({
  /** ESPHome's release: `2026.10.0`, `2026.10` or `newest`. */
  esphome: VersionWish.optional(),
  /** The agent that builds it, and labels that such an agent must carry. */
  "build-on": AgentId.optional(),
  "build-labels": labels.optional(),
  /** The weakest sandbox that it may be built in. */
  sandbox: SandboxLevel.optional(),
  /** The agent that flashes it, and labels that such an agent must carry. */
  "flash-on": AgentId.optional(),
  "flash-labels": labels.optional(),
  /** What carries the flash: `thread:hall` names the border router. */
  medium: medium.optional(),
  /** The port over which it is flashed, as `flashyard ports` lists it. */
  port: PortId.optional(),
  /** The command of the upload agent that flashes it over the port; absent: esptool. */
  flasher: FlasherName.optional(),
  baud: numeric(z.number().int().min(9_600).max(5_000_000)).optional(),
  /** `true`: it is flashed when it is next seen, however long that takes. */
  "when-online": truth.optional(),
  /** `02:00-05:00`, by the clock of the machine on which the request is made. */
  between: LocalWindow.optional(),
  encryption: OtaEncryption.optional(),
});
/** Of what is said in one place; a folder's rate is for those of its devices that esptool flashes. */
const DeviceSettings = DeviceSettingsShape.refine(({ baud, flasher }) => baud === undefined || flasher === undefined, {
  path: ["baud"],
  message: "with `flasher:` the rate stands in the agent's own command",
});
export type DeviceSettings = z.infer<typeof DeviceSettings>;

/** Settings of the file over those of its folder. @throws UsageError `bad-settings` with the file and the key */
export async function settingsOf(file: string): Promise<DeviceSettings> {
  const folderFile = join(dirname(file), folderSettingsName);
  const ofFolder = parsed(folderFile, contentOf(await textOf(folderFile)));
  const content = contentOf(await textOf(file));
  const ofFile = parsed(file, isRecord(content) ? content[".flashyard"] : undefined, ".flashyard: ");
  return { ...ofFolder, ...ofFile };
}

function parsed(file: string, value: unknown, within = ""): DeviceSettings {
  const result = DeviceSettings.safeParse(value ?? {});
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const place = issue?.path.join(" ") ?? "";
  const known = Object.keys(DeviceSettingsShape.shape).join(", ");
  const reason =
    issue?.code === "unrecognized_keys"
      ? `there is no setting ${issue.keys.join(", ")}; there are ${known}`
      : `${place === "" ? "it" : `\`${place}\``} cannot be used: ${issue?.message ?? "it is something else"}`;
  throw new UsageError("bad-settings", `${file}: ${within}${reason}`);
}

/** Empty for a file that is not there; what is wrong with one that is, ESPHome says better. */
async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || (error as NodeJS.ErrnoException).code === "EISDIR")
      return "";
    throw new UsageError("bad-settings", `${file} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** As text throughout, because 2026.10 is no number here. ESPHome's own tags stand for whatever follows them. */
function contentOf(text: string): unknown {
  try {
    const document = parseDocument(text, { schema: "failsafe", logLevel: "silent", uniqueKeys: false });
    // Aliases are not copied, so that any number of them takes no room.
    return document.errors.length > 0 ? undefined : document.toJS({ maxAliasCount: -1 });
  } catch (error) {
    // An alias of nothing, and nesting beyond the stack.
    if (error instanceof ReferenceError || error instanceof RangeError) return undefined;
    throw error;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
