/** The folder of the farm's keys on this machine. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { defaultHome } from "#actor/agent-settings.ts";
import { messageOf, UsageError } from "#protocol/errors.ts";
import type { Connection } from "#bus/connection.ts";
import type { Credentials } from "#bus/identity/credentials.ts";
import { keysFile } from "#bus/identity/farm-identity.ts";
import { requireRole } from "#bus/identity/sign-in.ts";
import { identityFile, nameInIdentity } from "#cli/backup/contents.ts";
import type { Backup } from "#cli/backup/read-backup.ts";

/** As it is named, in FLASHYARD_IDENTITY, or where `flashyard up` has it. */
export function keysFolder(environment: NodeJS.ProcessEnv, named?: string): string {
  return named ?? environment["FLASHYARD_IDENTITY"] ?? join(defaultHome(environment), "farm", "identity");
}

/** Whoever has no credentials is let in by a farm as well, to ask to be paired. @throws UsageError `no-keys` */
export function requireKeys(connection: Connection, credentials: Credentials | undefined, path: string): void {
  requireRole(credentials, path, { kind: "coordinator" });
  if (credentials !== undefined || connection.info?.auth_required !== true) return;
  throw new UsageError(
    "no-keys",
    `in this farm only the coordinator may read and write everything, and there is no ${path}: ` +
      "do this on the coordinator's machine, or name the folder of the farm's keys with --identity",
  );
}

/**
 * Where the keys are that open the restored farm: in the folder, or where there are none in what was unpacked.
 * @param isRenewed the backup's keys are to be used no more
 * @throws UsageError `other-keys` when the folder has those of another farm, `old-keys` when it has those that are not wanted
 */
export async function keysFor(backup: Backup, folder: string, isRenewed: boolean): Promise<string> {
  const [kept, own] = [identityFile("keys.json"), await contentIn(keysFile(folder))];
  if (isRenewed) {
    const isOld = own !== undefined && backup.has(kept) && own.equals(await readFile(backup.pathOf(kept)));
    if (!isOld) return folder;
    throw new UsageError("old-keys", `${folder} has the backup's keys, which --new-keys is to replace: move them away`);
  }
  if (own === undefined) return backup.has(kept) ? dirname(backup.pathOf(kept)) : folder;
  if (!backup.has(kept) || own.equals(await readFile(backup.pathOf(kept)))) return folder;
  throw new UsageError(
    "other-keys",
    `${folder} holds the keys of another farm than the backup's: move them away, or name another folder with --identity`,
  );
}

/** Writes what is not there yet; what is there stays. @throws UsageError `keys-not-written` */
export async function restoreKeys(backup: Backup, folder: string): Promise<number> {
  const names = backup.manifest.files.flatMap(({ path }) => nameInIdentity(path) ?? []);
  let written = 0;
  try {
    if (names.length > 0) await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of names) {
      const target = join(folder, name);
      if ((await contentIn(target)) !== undefined) continue;
      const content = await readFile(backup.pathOf(identityFile(name)));
      await writeFile(target, content, { mode: 0o600, flag: "wx", flush: true });
      written += 1;
    }
    return written;
  } catch (error) {
    const message = `the farm is restored, but its keys cannot be written to ${folder}: ${messageOf(error)}`;
    throw new UsageError("keys-not-written", message, { cause: error });
  }
}

function contentIn(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new UsageError("bad-keys", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  });
}
