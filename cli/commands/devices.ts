/** `flashyard devices`: what the farm knows of the devices from their last upload. */
import type { DeviceRecord } from "#protocol/admin.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { ago, table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export async function runDevices(
  session: Session,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { devices } = await farm.ask({ v: 1, kind: "devices" }, "devices");
  const sorted = devices.toSorted((a, b) => (a.configuration < b.configuration ? -1 : 1));
  const { terminal, clock } = session;
  if (isJson) for (const device of sorted) terminal.json(device);
  else if (sorted.length === 0) terminal.line("no device has been flashed yet: `flashyard install FILE` does");
  else
    for (const line of deviceTable(sorted, clock.now(), terminal.isLive ? terminal.size().columns : undefined))
      terminal.line(line);
  return exitCodes.done;
}

/** Pure. */
export function deviceTable(devices: readonly DeviceRecord[], now: number, columns?: number): readonly string[] {
  const rows = devices.map((device) => [
    device.configuration,
    device.address,
    device.state,
    device.esphomeVersion ?? "",
    device.build ?? "",
    device.mac ?? "",
    ago(device.at, now),
    device.chain,
  ]);
  return table(["CONFIGURATION", "ADDRESS", "LAST UPLOAD", "RUNS", "BUILT", "MAC", "WHEN", "CHAIN"], rows, columns);
}
