/** `flashyard install`: build, then flash. */
import type { Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { chooseFiles } from "#cli/configuration-files.ts";
import { deviceAddressFrom } from "#cli/device-address.ts";
import type { ExitCode } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { agentNamed, prepare, wishesFrom } from "#cli/preparation.ts";
import { showRefusals } from "#cli/refusal.ts";
import type { Session } from "#cli/session.ts";
import { submitAndFollow } from "#cli/submit.ts";

export interface InstallOptions {
  readonly all?: boolean;
  readonly folder?: string;
  readonly esphomeVersion?: string;
  readonly on?: string;
  readonly buildOn?: string;
  readonly priority?: Priority;
  readonly rebuild?: boolean;
  readonly device?: string;
  readonly detach?: boolean;
  readonly json?: boolean;
}

export async function runInstall(
  session: Session,
  files: readonly string[],
  options: InstallOptions,
): Promise<ExitCode> {
  const { all: isAll = false, json: isJson = false, detach: isDetached = false, folder } = options;
  if (options.device !== undefined && (isAll || files.length > 1)) {
    throw new UsageError("device-for-many", "--device names where one configuration is flashed: name one file with it");
  }
  const device = options.device === undefined ? undefined : deviceAddressFrom(options.device);
  const on = options.on === undefined ? undefined : agentNamed(options.on);
  const wishes = wishesFrom(options);
  const chosen = await chooseFiles({ files, isAll, folder });
  await using farm = await Farm.open(session);
  const wanted = chosen.map(({ file, configuration }) => ({
    file,
    configuration,
    kind: "install" as const,
    on,
    device,
  }));
  const { requests, refused } = await prepare(session, farm, wanted, wishes);
  session.interrupted.throwIfAborted();
  showRefusals(session.terminal, refused, isJson);
  const { code } = await submitAndFollow(session, farm, requests, { isDetached, isJson, refused });
  return code;
}
