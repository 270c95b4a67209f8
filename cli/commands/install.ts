/** `flashyard install`: build, then flash. */
import type { Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { chooseFiles } from "#cli/configuration-files.ts";
import type { ExitCode } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { type FlashOptions, flashWishesFrom } from "#cli/flash-wishes.ts";
import { withoutHeld } from "#cli/held-devices.ts";
import { prepare, wishesFrom } from "#cli/preparation.ts";
import { showRefusals } from "#cli/refusal.ts";
import { inWaves, type RolloutOptions, rolloutPlanFrom, sayRollout } from "#cli/rollout-plan.ts";
import type { Session } from "#cli/session.ts";
import { submitAndFollow } from "#cli/submit.ts";

export interface InstallOptions extends FlashOptions, RolloutOptions {
  readonly all?: boolean;
  readonly folder?: string;
  readonly esphomeVersion?: string;
  readonly buildOn?: string;
  readonly priority?: Priority;
  readonly rebuild?: boolean;
  readonly confirm?: boolean;
  readonly detach?: boolean;
  readonly json?: boolean;
}

export async function runInstall(
  session: Session,
  files: readonly string[],
  options: InstallOptions,
): Promise<ExitCode> {
  const { all: isAll = false, json: isJson = false, detach: isDetached = false, folder } = options;
  const place = options.device === undefined ? (options.serial === undefined ? undefined : "--serial") : "--device";
  if (place !== undefined && (isAll || files.length > 1)) {
    throw new UsageError("device-for-many", `${place} names where one configuration is flashed: name one file with it`);
  }
  const flash = flashWishesFrom(options);
  const plan = rolloutPlanFrom(options);
  const wishes = wishesFrom(options);
  const chosen = await chooseFiles({ files, isAll, folder });
  await using farm = await Farm.open(session);
  const wanted = chosen.map(({ file, configuration }) => ({
    file,
    configuration,
    kind: "install" as const,
    flash,
  }));
  const free = isAll ? await withoutHeld(session, farm, wanted) : wanted;
  const prepared = await prepare(session, farm, free, wishes);
  const { refused } = prepared;
  const bulk = isAll ? prepared.requests.map((request) => ({ ...request, isBulk: true })) : prepared.requests;
  const requests = plan === undefined ? bulk : inWaves(bulk, plan);
  if (plan !== undefined) sayRollout(session, requests);
  session.interrupted.throwIfAborted();
  showRefusals(session.terminal, refused, isJson);
  const { code } = await submitAndFollow(session, farm, requests, {
    isDetached,
    isJson,
    refused,
    isConfirmed: options.confirm === true || plan !== undefined,
  });
  return code;
}
