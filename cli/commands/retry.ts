/** `flashyard retry`: runs again what failed, was cancelled, or ended without anybody knowing how. */
import { UsageError } from "#protocol/errors.ts";
import { everyConfiguration } from "#protocol/ids.ts";
import { confirmReset } from "#cli/commands/reset.ts";
import { deviceAddressFrom } from "#cli/device-address.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { showRefusals } from "#cli/refusal.ts";
import { chooseFailed, chooseNamed } from "#cli/retry-choice.ts";
import { prepareRetries } from "#cli/retry-requests.ts";
import type { Session } from "#cli/session.ts";
import { submitAndFollow } from "#cli/submit.ts";
import { takeTreesAway } from "#cli/tree-removal.ts";

export interface RetryOptions {
  readonly failed?: boolean;
  readonly folder?: string;
  readonly device?: string;
  readonly yes?: boolean;
  readonly detach?: boolean;
  readonly json?: boolean;
}

export async function runRetry(
  session: Session,
  references: readonly string[],
  options: RetryOptions,
): Promise<ExitCode> {
  const { failed: isFailed = false, json: isJson = false, detach: isDetached = false, folder = "." } = options;
  if (isFailed === references.length > 0) {
    throw new UsageError("jobs-or-failed", "name what to run again, or say --failed for all that failed");
  }
  if (options.device !== undefined && references.length !== 1) {
    throw new UsageError("device-for-many", "--device names where one configuration is flashed: name one with it");
  }
  const device = options.device === undefined ? undefined : deviceAddressFrom(options.device);
  await using farm = await Farm.open(session);
  const choice = isFailed ? await chooseFailed(farm) : await chooseNamed(farm, references);
  const removals = choice.chosen.filter(({ chain }) => chain.clean !== undefined);
  const owners = [...new Set(removals.map(({ chain }) => chain.configuration))];
  if (owners.includes(everyConfiguration)) await confirmReset(session, farm, options.yes === true);
  const others = choice.chosen.filter(({ chain }) => chain.clean === undefined);
  const made = await prepareRetries(session, farm, others, { folder, device });
  session.interrupted.throwIfAborted();
  const refused = [...choice.refused, ...made.refused];
  showRefusals(session.terminal, refused, isJson);
  if (isFailed && choice.chosen.length + refused.length === 0 && !isJson)
    session.terminal.line("nothing that failed is left to run again");
  const codes: ExitCode[] = [];
  if (owners.length > 0) codes.push(await takeTreesAway(session, farm, owners, { isDetached, isJson }));
  // After them: a reset ends what was asked for before it.
  if (owners.length === 0 || made.requests.length + refused.length > 0) {
    codes.push((await submitAndFollow(session, farm, made.requests, { isDetached, isJson, refused })).code);
  }
  return codes.includes(exitCodes.detached) ? exitCodes.detached : worstOf(codes);
}
