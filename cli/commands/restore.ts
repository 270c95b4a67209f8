/** `flashyard restore`: what a backup holds, into an empty farm without a coordinator. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { defaultHome } from "#actor/agent-settings.ts";
import { GroupLedger } from "#actor/process-group.ts";
import type { Connection } from "#bus/connection.ts";
import { startOwnServer } from "#bus/identity/own-server.ts";
import { signIn } from "#bus/identity/sign-in.ts";
import { replicaWish } from "#bus/replicas.ts";
import { resolveServerBinary } from "#bus/server-binary.ts";
import { checkServer } from "#bus/server-check.ts";
import { coordinatorFile, keysFile } from "#bus/identity/farm-identity.ts";
import { keysFolder, keysFor, requireKeys, restoreKeys } from "#cli/backup/keys-folder.ts";
import { openBackup } from "#cli/backup/read-backup.ts";
import { type Restored, restoreFarm } from "#cli/backup/restore-farm.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { lockHome } from "#cli/local-farm.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface RestoreOptions {
  readonly home?: string;
  readonly identity?: string;
  readonly newKeys?: boolean;
  readonly json?: boolean;
}

export async function runRestore(session: Session, file: string, options: RestoreOptions): Promise<ExitCode> {
  const { terminal, clock, environment, servers } = session;
  await using backup = await openBackup(file);
  const home = options.home ?? join(defaultHome(environment), "farm");
  const own = options.identity ?? (options.home === undefined ? undefined : join(home, "identity"));
  const identity = keysFolder(environment, own);
  const isRenewed = options.newKeys === true;
  const keys = await keysFor(backup, identity, isRenewed);
  const how = { replicas: replicaWish(environment["FLASHYARD_REPLICAS"]), isRenewed };
  const restore = async (connection: Connection) => {
    await checkServer(connection);
    return restoreFarm(connection, backup, clock, how);
  };
  let restored: Restored;
  if (servers === undefined) restored = await intoHome(session, home, keysFile(keys), restore);
  else {
    const path = coordinatorFile(keys);
    const { connection, credentials } = await signIn({ path, servers, name: "flashyard restore" });
    try {
      requireKeys(connection, credentials, path);
      restored = await restore(connection);
    } finally {
      await connection.close();
    }
  }
  const files = isRenewed ? 0 : await restoreKeys(backup, identity);
  if (options.json === true) terminal.json({ kind: "restored", at: backup.manifest.at, keys: files, ...restored });
  else for (const line of restoredLines(restored, files, identity)) terminal.line(line);
  return exitCodes.done;
}

/** Where `flashyard up` will find it: in the store of a server that runs for this only. */
async function intoHome(
  { cacheFolder, clock, environment, interrupted, terminal }: Session,
  home: string,
  keys: string,
  restore: (connection: Connection) => Promise<Restored>,
): Promise<Restored> {
  await mkdir(home, { recursive: true, mode: 0o700 });
  await using _lock = await lockHome(home, clock);
  await new GroupLedger(join(home, "processes")).requireNoLeftovers(clock);
  const explicitPath = environment["FLASHYARD_NATS_SERVER"];
  const binary = await resolveServerBinary({
    cacheFolder,
    signal: interrupted,
    ...(explicitPath === undefined ? {} : { explicitPath }),
    onProgress: (line) => terminal.note(line),
  });
  await using server = await startOwnServer(binary.path, join(home, "nats"), keys);
  return await restore(server.connection);
}

/** Pure. */
function restoredLines({ messages, ended, unreadable }: Restored, keys: number, identity: string): readonly string[] {
  return [
    `restored: ${count(messages, "message")}${keys === 0 ? "" : `, and ${count(keys, "file")} of the farm's keys in ${identity}`}`,
    ...(ended === 0
      ? []
      : [
          `chains that were under way, and have ended now: ${ended}; \`flashyard history --failed\` lists the uploads of which nobody ` +
            "knows, `flashyard history` what to ask for again",
        ]),
    ...(unreadable === 0 ? [] : [`chains under way that nobody can read, and that are left out: ${unreadable}`]),
    "start the coordinator now",
  ];
}
