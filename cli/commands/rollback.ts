/** `flashyard rollback`: flashes the last build that the device is known to have run well. */
import type { ExitCode } from "#cli/exit-codes.ts";
import { flashWishesFrom } from "#cli/flash-wishes.ts";
import type { Session } from "#cli/session.ts";
import { flashBuild, type UploadOptions } from "#cli/commands/upload.ts";

export async function runRollback(session: Session, file: string, options: UploadOptions): Promise<ExitCode> {
  return await flashBuild(session, file, {
    find: (configuration) => ({ v: 1, kind: "last-good-build", configuration }),
    // Whoever goes back wants an older release, if that is what it was built with.
    flash: flashWishesFrom({ ...options, downgrade: true }),
    options,
  });
}
