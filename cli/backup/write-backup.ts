/**
 * Makes a backup of a farm, which may be at work meanwhile.
 *
 * 1. The live chains are read first, the history after them: a chain that ends meanwhile is in one of them at least, and a restore goes by
 *    the history.
 * 2. The file is whole, checked and readable by its owner only, or not there.
 */
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { chmod, mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { create } from "tar";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { farmVersion } from "#protocol/version.ts";
import type { Connection } from "#bus/connection.ts";
import { newestOf, type StoredMessage, storedMessages } from "#bus/stream-copy.ts";
import {
  type BackupFile,
  type BackupManifest,
  chainsStream,
  identityFile,
  type KeptStream,
  keptStreams,
  lineOf,
  manifestName,
  nameInIdentity,
  streamFile,
} from "#cli/backup/contents.ts";
import { openBackup } from "#cli/backup/read-backup.ts";

/** A farm at work writes its chains all the time; each record is whole in any case. */
const roundsMax = 5;

export interface BackupOptions {
  readonly file: string;
  readonly connection: Connection;
  /** Folder of the farm's keys; absent where they are not on this machine. */
  readonly identity: string | undefined;
  readonly with: ReadonlySet<"logs" | "objects">;
  /** ms since 1970. */
  readonly at: number;
}

/** @throws UsageError `backup-exists`, `backup-not-written`; UnavailableError for the server */
export async function writeBackup(options: BackupOptions): Promise<BackupManifest> {
  const file = resolve(options.file);
  if (await isThere(file)) {
    throw new UsageError("backup-exists", `${file} is there already: name another file, or remove it`);
  }
  const folder = await mkdtemp(`${file}.`).catch((error: unknown) => {
    throw notWritten(file, error);
  });
  try {
    const manifest = await gather(join(folder, "content"), options);
    const draft = join(folder, "backup");
    const paths = [manifestName, ...manifest.files.map(({ path }) => path)];
    await create({ cwd: join(folder, "content"), file: draft, zstd: true, portable: true }, paths);
    await chmod(draft, 0o600);
    await flush(draft);
    await using checked = await openBackup(draft, folder);
    await rename(draft, file);
    await flush(dirname(file));
    return checked.manifest;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw notWritten(file, error);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function gather(folder: string, { connection, identity, with: wanted, at }: BackupOptions) {
  const files: BackupFile[] = [];
  let chainsSequence: number | undefined;
  for (const kept of keptStreams) {
    if (kept.only !== undefined && !wanted.has(kept.only)) continue;
    if ((await newestOf(connection, kept.stream)) === undefined) continue;
    if (kept.stream === chainsStream) {
      const { messages, sequence } = await liveChains(connection);
      chainsSequence = sequence;
      files.push(await putStream(folder, kept, messages));
    } else files.push(await putStream(folder, kept, storedMessages(connection, kept.stream)));
  }
  for (const name of identity === undefined ? [] : await keysIn(identity)) {
    files.push(await putFile(folder, identityFile(name), await readFile(join(identity ?? "", name))));
  }
  const sequence = chainsSequence === undefined ? {} : { chainsSequence };
  const manifest: BackupManifest = { kind: "flashyard-backup", v: 1, version: farmVersion, at, ...sequence, files };
  await putFile(folder, manifestName, Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`));
  return manifest;
}

/** At one sequence, where they stand still for as long as that takes. */
async function liveChains(connection: Connection) {
  for (let round = 1; ; round += 1) {
    const before = await newestOf(connection, chainsStream);
    const messages: StoredMessage[] = [];
    for await (const message of storedMessages(connection, chainsStream)) messages.push(message);
    const isStill = before === (await newestOf(connection, chainsStream));
    if (isStill || round === roundsMax) return { messages, sequence: isStill ? before : undefined };
  }
}

async function putStream(
  folder: string,
  { stream, isBucket }: KeptStream,
  messages: AsyncIterable<StoredMessage> | Iterable<StoredMessage>,
): Promise<BackupFile> {
  const path = join(folder, streamFile(stream));
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const hash = createHash("sha256");
  let [bytes, count] = [0, 0];
  const lines = async function* () {
    for await (const message of isBucket ? newestOnly(messages) : messages) {
      const line = Buffer.from(lineOf(message));
      hash.update(line);
      bytes += line.length;
      count += 1;
      yield line;
    }
  };
  await pipeline(lines, createWriteStream(path, { mode: 0o600 }));
  return { path: streamFile(stream), bytes, sha256: hash.digest("hex"), messages: count };
}

/** The newest value of each key, in the order of their writes. */
async function* newestOnly(messages: AsyncIterable<StoredMessage> | Iterable<StoredMessage>) {
  const newest = new Map<string, StoredMessage>();
  for await (const message of messages) {
    newest.delete(message.subject);
    if (!message.isRemoval) newest.set(message.subject, message);
  }
  yield* newest.values();
}

async function putFile(folder: string, path: string, content: Buffer): Promise<BackupFile> {
  await mkdir(dirname(join(folder, path)), { recursive: true, mode: 0o700 });
  await writeFile(join(folder, path), content, { mode: 0o600 });
  return { path, bytes: content.length, sha256: createHash("sha256").update(content).digest("hex") };
}

async function keysIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  return entries
    .filter((entry) => entry.isFile() && nameInIdentity(identityFile(entry.name)) !== undefined)
    .map(({ name }) => name)
    .toSorted();
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

/** A name is on the disk when its folder is. */
async function flush(path: string): Promise<void> {
  await using handle = await open(path, "r");
  await handle.sync();
}

function notWritten(file: string, error: unknown): UsageError {
  return new UsageError("backup-not-written", `${file} cannot be written: ${messageOf(error)}`, { cause: error });
}
