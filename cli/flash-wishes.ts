/** Where, how and when a device is flashed, by what the user and the file say; what the user says counts for more. */
import type { ChainRequest } from "#protocol/admin.ts";
import { UsageError } from "#protocol/errors.ts";
import { AgentId } from "#protocol/ids.ts";
import {
  OtaEncryption,
  type OtaTarget,
  type SerialTarget,
  type UpdatePart,
  type UploadTarget,
  withEncryption,
} from "#protocol/job.ts";
import { confirmAfterMs } from "#protocol/limits.ts";
import { EspChip, FlasherName, PortId, type SerialTool } from "#protocol/serial.ts";
import type { DailyWindow, UploadTiming } from "#protocol/timing.ts";
import type { DeviceConfiguration } from "#toolchain/configuration.ts";
import { type DeviceAddress, deviceAddressFrom, targetAt } from "#cli/device-address.ts";
import { type DeviceSettings, LocalWindow } from "#cli/device-settings.ts";

/** The options of a command that are about the flash; each command has some of them. */
export interface FlashOptions {
  readonly on?: string;
  readonly device?: string;
  readonly serial?: string;
  readonly flasher?: string;
  readonly whenOnline?: boolean;
  readonly between?: string;
  readonly downgrade?: boolean;
  readonly encryption?: string;
  /** Seconds. */
  readonly confirmAfter?: number;
}

export interface FlashWishes {
  readonly on?: AgentId | undefined;
  readonly device?: DeviceAddress | undefined;
  readonly port?: PortId | undefined;
  readonly flasher?: string | undefined;
  readonly isAwaited?: boolean | undefined;
  readonly window?: DailyWindow | undefined;
  readonly mayDowngrade?: boolean | undefined;
  readonly encryption?: OtaEncryption | undefined;
  readonly part?: UpdatePart | undefined;
  readonly confirmAfterMs?: number | undefined;
}

/** @throws UsageError for an agent, a device, a port, a flasher or a time that cannot be */
export function flashWishesFrom(options: FlashOptions): FlashWishes {
  const { on, device, serial, flasher, whenOnline, between, downgrade, encryption, confirmAfter } = options;
  if (device !== undefined && serial !== undefined) {
    throw new UsageError("device-and-port", "--device is for a flash over the air, --serial for one over a port");
  }
  return {
    on: on === undefined ? undefined : agentNamed("--on", on),
    device: device === undefined ? undefined : deviceAddressFrom(device),
    port: serial === undefined ? undefined : named("--serial", serial, PortId),
    flasher: flasher === undefined ? undefined : named("--flasher", flasher, FlasherName),
    isAwaited: whenOnline,
    window: between === undefined ? undefined : named("--between", between, LocalWindow),
    mayDowngrade: downgrade,
    confirmAfterMs: confirmAfter === undefined ? undefined : confirmAfter * 1_000,
    encryption: encryption === undefined ? undefined : named("--encryption", encryption, OtaEncryption),
  };
}

/** @param where the option or command with which it was said @throws UsageError `bad-agent` */
export function agentNamed(where: string, text: string): AgentId {
  const parsed = AgentId.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new UsageError(
    "bad-agent",
    `${where} ${JSON.stringify(text)}: no agent can have this name; \`flashyard agents\` lists them`,
  );
}

interface Readable<T> {
  safeParse(
    text: string,
  ):
    | { readonly success: true; readonly data: T }
    | { readonly success: false; readonly error: { readonly issues: readonly { readonly message: string }[] } };
}

function named<T>(option: string, text: string, schema: Readable<T>): T {
  const parsed = schema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new UsageError("bad-option", `${option} ${JSON.stringify(text)}: ${parsed.error.issues[0]?.message ?? ""}`);
}

export type UploadHalf = NonNullable<ChainRequest["upload"]>;

/** The upload half of a request, or a sentence that says why its device cannot be flashed. */
export function uploadHalf(
  configuration: DeviceConfiguration,
  settings: DeviceSettings,
  wishes: FlashWishes,
): UploadHalf | string {
  const target = targetOf(configuration, settings, wishes);
  if (typeof target === "string") return target;
  const { "flash-labels": labels } = settings;
  const on = wishes.on ?? settings["flash-on"];
  const timing = timingOf(configuration, settings, wishes);
  return {
    target,
    ...(on === undefined ? {} : { on }),
    ...(labels === undefined ? {} : { labels }),
    ...(timing === undefined ? {} : { timing }),
    ...(wishes.mayDowngrade === true ? { mayDowngrade: true } : {}),
    ...(wishes.part === undefined ? {} : { part: wishes.part }),
    // A device that sleeps is not there to be asked a minute later.
    ...(configuration.sleeps ? {} : { confirmAfterMs: wishes.confirmAfterMs ?? confirmAfterMs }),
  };
}

function timingOf(
  { sleeps }: DeviceConfiguration,
  settings: DeviceSettings,
  wishes: FlashWishes,
): UploadTiming | undefined {
  const isAwaited = wishes.isAwaited ?? settings["when-online"] ?? sleeps;
  const window = wishes.window ?? settings.between;
  if (!isAwaited && window === undefined) return undefined;
  return { ...(isAwaited ? { isAwaited } : {}), ...(window === undefined ? {} : { window }) };
}

function targetOf(
  configuration: DeviceConfiguration,
  settings: DeviceSettings,
  wishes: FlashWishes,
): UploadTarget | string {
  const port = wishes.port ?? (wishes.device === undefined ? settings.port : undefined);
  return port === undefined
    ? otaTargetOf(configuration, settings, wishes)
    : serialTargetOf(configuration, settings, wishes, port);
}

/** Where the device is flashed over the air, or a sentence that says why it cannot be. */
function otaTargetOf(
  configuration: DeviceConfiguration,
  { medium, encryption: usual }: DeviceSettings,
  { device, encryption = usual }: FlashWishes,
): OtaTarget | string {
  const { target, addsMacSuffix } = configuration;
  if (target === undefined) {
    return "it cannot be flashed over the air: add `ota:` with `- platform: esphome` to it, flash it over a port with --serial, or use `flashyard build`";
  }
  if (addsMacSuffix && device === undefined) {
    return "with `name_add_mac_suffix` the device's address cannot be told from the file: name it with --device";
  }
  const found = targetAt(medium === undefined ? target : { ...target, medium }, device);
  return encryption === undefined ? found : withEncryption(found, encryption);
}

function serialTargetOf(
  configuration: DeviceConfiguration,
  settings: DeviceSettings,
  wishes: FlashWishes,
  port: PortId,
): SerialTarget | string {
  const { esphomeName: name, platform, chip, target, addsMacSuffix } = configuration;
  const tool = toolOf(wishes.flasher ?? settings.flasher, settings.baud, chip);
  if (tool === undefined) {
    return `the farm knows no program of its own that flashes ${chip ?? platform} over a port: name one of the agent's with --flasher (docs/serial.md)`;
  }
  const network = addsMacSuffix ? undefined : target;
  return {
    kind: "serial",
    port,
    tool,
    name,
    ...(addsMacSuffix ? { isOneOfMany: true } : {}),
    ...(network === undefined ? {} : { network }),
  };
}

function toolOf(
  flasher: string | undefined,
  baud: number | undefined,
  name: string | undefined,
): SerialTool | undefined {
  if (flasher !== undefined) return { kind: "command", flasher };
  const chip = EspChip.safeParse(name);
  if (!chip.success) return undefined;
  return { kind: "esptool", chip: chip.data, ...(baud === undefined ? {} : { baud }) };
}
