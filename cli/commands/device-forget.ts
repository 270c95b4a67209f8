/** `flashyard device forget`: the hardware behind a configuration was replaced. */
import { deviceNamed } from "#cli/commands/device-hold.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { nameOf } from "#cli/job-sentence.ts";
import type { Session } from "#cli/session.ts";

export async function runDeviceForget(
  session: Session,
  names: readonly string[],
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  const configurations = names.map(deviceNamed);
  const { terminal } = session;
  await using farm = await Farm.open(session);
  for (const configuration of configurations) {
    const { wasKnown } = await farm.ask({ v: 1, kind: "forget-device", configuration }, "device-forgotten");
    if (isJson) terminal.json({ kind: "device-forgotten", configuration, wasKnown });
    else terminal.line(`${nameOf(configuration)}${sentence(wasKnown)}`);
  }
  return exitCodes.done;
}

function sentence(wasKnown: boolean): string {
  return wasKnown ? " is forgotten: its next flash may find another device" : ": nothing was known of its device";
}
