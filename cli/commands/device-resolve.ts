/** `flashyard device resolve`: a person says what an upload of unknown outcome has left on its device. */
import { UsageError } from "#protocol/errors.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { jobSentence, nameOf } from "#cli/job-sentence.ts";
import { jobFields } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";

export interface ResolveOptions {
  readonly running?: boolean;
  readonly notRunning?: boolean;
  readonly json?: boolean;
}

export async function runDeviceResolve(
  session: Session,
  name: string,
  { running: isRunning = false, notRunning: isNotRunning = false, json: isJson = false }: ResolveOptions,
): Promise<ExitCode> {
  if (isRunning === isNotRunning) {
    throw new UsageError("running-or-not", "say --running or --not-running: whether the device runs the new build");
  }
  await using farm = await Farm.open(session);
  const reference = name.replace(/\.ya?ml$/i, "");
  const { chain } = await farm.ask({ v: 1, kind: "resolve-device", reference, isRunning }, "device-resolved");
  const { terminal } = session;
  const { upload } = chain;
  if (upload === undefined) return exitCodes.done;
  if (isJson) terminal.json({ kind: "device-resolved", ...jobFields(chain, upload) });
  else terminal.line(`${nameOf(chain.configuration)}: noted, the upload of ${chain.id} ${jobSentence(upload)}`);
  return exitCodes.done;
}
