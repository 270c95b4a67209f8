/** `flashyard rollback`: flashes the last build that the device is known to have run well. */
import { configurationOf } from "#cli/configuration-files.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { flashWishesFrom } from "#cli/flash-wishes.ts";
import { showRefusals } from "#cli/refusal.ts";
import type { Session } from "#cli/session.ts";
import { submitAndFollow } from "#cli/submit.ts";
import { requestOf, type UploadOptions } from "#cli/commands/upload.ts";

export async function runRollback(session: Session, file: string, options: UploadOptions): Promise<ExitCode> {
  const { json: isJson = false, detach: isDetached = false } = options;
  // Whoever goes back wants an older release, if that is what it was built with.
  const flash = flashWishesFrom({ ...options, downgrade: true });
  const configuration = configurationOf(file);
  await using farm = await Farm.open(session);
  const build = await farm.ask({ v: 1, kind: "last-good-build", configuration }, "newest-build");
  const made = await requestOf(session, farm, file, { build, flash, options });
  session.interrupted.throwIfAborted();
  if (!("request" in made)) {
    showRefusals(session.terminal, [made.refusal], isJson);
    return exitCodes.badInput;
  }
  const { code } = await submitAndFollow(session, farm, [made.request], { isDetached, isJson, refused: [] });
  return code;
}
