/** `flashyard backup`: all that the farm must not lose, in one file. */
import { signIn } from "#bus/identity/sign-in.ts";
import type { BackupManifest } from "#cli/backup/contents.ts";
import { nameInIdentity } from "#cli/backup/contents.ts";
import { coordinatorFile } from "#bus/identity/farm-identity.ts";
import { keysFolder, requireKeys } from "#cli/backup/keys-folder.ts";
import { openBackup } from "#cli/backup/read-backup.ts";
import { writeBackup } from "#cli/backup/write-backup.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { count, size } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface BackupOptions {
  readonly check?: boolean;
  readonly logs?: boolean;
  readonly objects?: boolean;
  readonly identity?: string;
  readonly json?: boolean;
}

export async function runBackup(session: Session, file: string, options: BackupOptions): Promise<ExitCode> {
  const { terminal } = session;
  const manifest = options.check === true ? await checked(file) : await made(session, file, options);
  if (options.json === true) terminal.json(manifest);
  else for (const line of manifestLines(file, manifest)) terminal.line(line);
  return exitCodes.done;
}

async function checked(file: string): Promise<BackupManifest> {
  await using backup = await openBackup(file);
  return backup.manifest;
}

async function made(session: Session, file: string, options: BackupOptions): Promise<BackupManifest> {
  const { clock, environment, servers } = session;
  const identity = keysFolder(environment, options.identity);
  const path = coordinatorFile(identity);
  const { connection, credentials } = await signIn({ path, servers, name: "flashyard backup" });
  try {
    requireKeys(connection, credentials, path);
    const wanted = new Set<"logs" | "objects">();
    if (options.logs === true) wanted.add("logs");
    if (options.objects === true) wanted.add("objects");
    // Keys that do not open this farm are another one's.
    const keys = credentials === undefined ? undefined : identity;
    return await writeBackup({ file, connection, identity: keys, with: wanted, at: clock.now() });
  } finally {
    await connection.close();
  }
}

/** Pure. */
export function manifestLines(file: string, { at, version, files }: BackupManifest): readonly string[] {
  const streams = files.filter(({ messages }) => messages !== undefined);
  const keys = files.filter(({ path }) => nameInIdentity(path) !== undefined).length;
  const bytes = files.reduce((sum, one) => sum + one.bytes, 0);
  return [
    `${file}: whole, made ${new Date(at).toISOString()} by flashyard ${version}, ${size(bytes)} unpacked`,
    ...streams.map(
      ({ path, messages = 0 }) => `  ${path.replace(/^streams\/(.*)\.jsonl$/, "$1")}  ${count(messages, "message")}`,
    ),
    keys === 0
      ? "  no keys: in a farm where machines sign in, also save the folder of the farm's keys"
      : `  the farm's keys (${count(keys, "file")}): whoever has this file can be the farm`,
  ];
}
