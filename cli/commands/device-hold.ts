/** `flashyard device hold` and `release`: whether `install --all` may flash a device. */
import { UsageError } from "#protocol/errors.ts";
import { Configuration, everyConfiguration } from "#protocol/ids.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { nameOf } from "#cli/job-sentence.ts";
import type { Session } from "#cli/session.ts";

export interface HoldOptions {
  readonly reason?: string;
  readonly json?: boolean;
}

export async function runDeviceHold(
  session: Session,
  names: readonly string[],
  isHeld: boolean,
  { reason, json: isJson = false }: HoldOptions,
): Promise<ExitCode> {
  if (reason !== undefined && reason.length > 200) {
    throw new UsageError("long-reason", `a reason has 200 characters at most, this one has ${reason.length}`);
  }
  const configurations = names.map(deviceNamed);
  const { terminal } = session;
  await using farm = await Farm.open(session);
  const { devices } = await farm.ask({ v: 1, kind: "devices" }, "devices");
  for (const configuration of configurations) {
    const why = reason === undefined ? {} : { reason };
    const { note } = await farm.ask({ v: 1, kind: "hold-device", configuration, isHeld, ...why }, "device-noted");
    if (isJson) terminal.json({ kind: "device-noted", ...note, v: undefined });
    else if (isHeld)
      terminal.line(`${nameOf(configuration)} is on hold: \`install --all\` leaves it out, also in waves`);
    else terminal.line(`${nameOf(configuration)} is flashed with the others again`);
    if (isHeld && !devices.some((device) => device.configuration === configuration))
      terminal.note(
        `${nameOf(configuration)} has never been flashed by this farm; \`flashyard devices\` lists the others`,
      );
  }
  return exitCodes.done;
}

/** `lamp`, or its file `lamp.yaml` without a folder. @throws UsageError `bad-configuration` */
export function deviceNamed(name: string): Configuration {
  const parsed = Configuration.safeParse(name.replace(/\.ya?ml$/i, ""));
  if (parsed.success && parsed.data !== everyConfiguration) return parsed.data;
  throw new UsageError("bad-configuration", `${JSON.stringify(name)} is no configuration: lamp or lamp.yaml is one`);
}
