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
  let code: ExitCode = exitCodes.done;
  for (const configuration of configurations) {
    const { wasKnown } = await farm.ask({ v: 1, kind: "forget-device", configuration }, "device-forgotten");
    // What is under way for it tells the farm the same again when it ends.
    const { devices } = await farm.ask({ v: 1, kind: "devices" }, "devices");
    const isLeft = devices.some((device) => device.configuration === configuration && device.mac !== undefined);
    if (isLeft) code = exitCodes.failed;
    if (isJson) terminal.json({ kind: "device-forgotten", configuration, wasKnown, isLeft });
    else terminal.line(`${nameOf(configuration)}${sentence(wasKnown, isLeft)}`);
  }
  return code;
}

function sentence(wasKnown: boolean, isLeft: boolean): string {
  if (isLeft)
    return ": its last upload is not over yet and would be remembered; say it again when `flashyard ps` is done with it";
  return wasKnown ? " is forgotten: its next flash may find another device" : ": nothing was known of its device";
}
