/** `flashyard devices`: what the farm knows of the devices from their last upload, and what people have said of them. */
import type { DeviceRecord } from "#protocol/admin.ts";
import type { Configuration } from "#protocol/ids.ts";
import type { DeviceNote } from "#protocol/records.ts";
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { type AnswerOf, Farm } from "#cli/farm.ts";
import { holdsIn } from "#cli/held-devices.ts";
import { ago, table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

/** A device by its configuration: flashed at least once, or on hold. */
export interface KnownDevice {
  readonly configuration: Configuration;
  readonly record?: DeviceRecord | undefined;
  readonly hold?: DeviceNote | undefined;
}

type Twins = NonNullable<AnswerOf<"devices">["twins"]>[number];

export async function runDevices(
  session: Session,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const answer = await farm.ask({ v: 1, kind: "devices" }, "devices");
  const { devices: records, twins = [] } = answer;
  const devices = knownDevices(answer);
  const { terminal, clock } = session;
  if (isJson) {
    for (const { configuration, record, hold } of devices) {
      const held = hold === undefined ? { isHeld: false } : { isHeld: true, holdReason: hold.reason };
      terminal.json({ kind: "device", configuration, ...record, ...held, v: undefined });
    }
    for (const pair of twins) terminal.json({ kind: "twins", ...pair });
    return exitCodes.done;
  }
  if (devices.length === 0) terminal.line("no device has been flashed yet: `flashyard install FILE` does");
  else
    for (const line of deviceTable(devices, clock.now(), terminal.isLive ? terminal.size().columns : undefined))
      terminal.line(line);
  for (const pair of twins) terminal.line(terminal.paint("yellow", shown(twinSentence(pair, records))));
  return exitCodes.done;
}

/** By configuration. Pure. */
function knownDevices(answer: AnswerOf<"devices">): readonly KnownDevice[] {
  const records = new Map(answer.devices.map((record) => [record.configuration, record]));
  const holds = holdsIn(answer);
  return [...new Set([...records.keys(), ...holds.keys()])]
    .toSorted((a, b) => (a < b ? -1 : 1))
    .map((configuration) => ({
      configuration,
      record: records.get(configuration),
      hold: holds.get(configuration),
    }));
}

/** Pure. */
export function deviceTable(devices: readonly KnownDevice[], now: number, columns?: number): readonly string[] {
  const rows = devices.map(({ configuration, record, hold }) => [
    configuration,
    record?.address ?? "",
    record === undefined ? "never flashed" : stateWord(record),
    hold === undefined ? "" : (hold.reason ?? "yes"),
    record?.esphomeVersion ?? "",
    record?.build ?? "",
    record?.mac ?? "",
    record?.agent ?? "",
    record === undefined ? "" : ago(record.at, now),
    record?.chain ?? "",
  ]);
  const head = ["CONFIGURATION", "ADDRESS", "STATE", "ON HOLD", "RUNS", "BUILT", "MAC", "FLASHED BY", "WHEN", "CHAIN"];
  return table(head, rows, columns);
}

/** How sure it is that the device runs what it was flashed with last. */
function stateWord({ state, level, needsFlash }: DeviceRecord): string {
  if (needsFlash === true) return "needs a flash";
  if (state === "rolled-back") return "rolled back";
  return state === "succeeded" ? (level ?? state) : state;
}

/** Two devices of one name, and what that means for who flashes it. Pure. */
export function twinSentence({ name, macs }: Twins, records: readonly DeviceRecord[]): string {
  const number = macs.length === 2 ? "two" : String(macs.length);
  const known = records.find((record) => record.name === name && record.mac !== undefined);
  const meaning =
    known?.mac === undefined
      ? `${name}.local may be either: give one another name, or say which with --device ADDRESS`
      : `only ${known.mac} is flashed as ${known.configuration}, another one is refused; ` +
        `if it was replaced: \`flashyard device forget ${known.configuration}\``;
  return `${number} devices call themselves ${name}: ${macs.join(", ")}; ${meaning}`;
}
