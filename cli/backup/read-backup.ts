/**
 * Opens a backup into a folder of its own, and looks at all of it before anybody uses any of it.
 *
 * 1. What is not whole, not named by its manifest with its SHA-256, or no line of its stream, is refused with all the rest.
 * 2. Nothing is written outside of the folder, which goes with the object.
 */
import { createHash, type Hash } from "node:crypto";
import { closeSync, createReadStream, mkdirSync, openSync, writeSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { createZstdDecompress } from "node:zlib";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { type ArchiveEntry, readTar } from "#toolchain/archive.ts";
import {
  type BackupFile,
  BackupManifest,
  keptStreams,
  manifestName,
  messageOfLine,
  nameInIdentity,
  streamFile,
} from "#cli/backup/contents.ts";

/** Far above any farm: its logs have 2 GiB at most, its objects what a disk holds. */
const limits = { bytesMax: Number.MAX_SAFE_INTEGER, unpackedBytesMax: 2 ** 40, filesMax: 200 };
const manifestBytesMax = 1024 * 1024;

export interface Backup extends AsyncDisposable {
  readonly manifest: BackupManifest;
  /** Where a file of it lies. */
  pathOf(name: string): string;
  has(name: string): boolean;
}

/**
 * @param where what it holds is unpacked there, in a folder for this user only
 * @throws UsageError `bad-backup` for anything that is no whole backup, with what is wrong with it; `backup-not-read` for the disk
 */
export async function openBackup(file: string, where = tmpdir()): Promise<Backup> {
  try {
    return await unpackedIn(await mkdtemp(join(where, "flashyard-backup-")), file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    const message = `${file} cannot be read, or unpacked in ${where} (TMPDIR names another folder): ${messageOf(error)}`;
    throw new UsageError("backup-not-read", message, { cause: error });
  }
}

async function unpackedIn(folder: string, file: string): Promise<Backup> {
  try {
    const manifest = await unpack(file, folder);
    for (const found of manifest.files) if (found.messages !== undefined) await checkLines(file, folder, found);
    const names = new Set(manifest.files.map(({ path }) => path));
    return {
      manifest,
      pathOf: (name) => join(folder, name),
      has: (name) => names.has(name),
      [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
    };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

interface Unpacked {
  readonly hash: Hash;
  bytes: number;
}

async function unpack(file: string, folder: string): Promise<BackupManifest> {
  const found = new Map<string, Unpacked>();
  const opened = new Set<number>();
  let manifest: BackupManifest | undefined;
  let head = Buffer.alloc(0);
  const wanted = (path: string) => manifest?.files.find((one) => one.path === path);
  const open = (entry: ArchiveEntry) => {
    if (entry.kind === "folder") throw bad(file, `it holds the folder ${entry.path}`);
    if (found.size === 0) {
      if (entry.path !== manifestName || entry.bytes > manifestBytesMax) throw bad(file, "it begins with no manifest");
    } else if (wanted(entry.path)?.bytes !== entry.bytes) {
      throw bad(file, `${JSON.stringify(entry.path)} is not what its manifest says`);
    }
    const unpacked = { hash: createHash("sha256"), bytes: 0 };
    found.set(entry.path, unpacked);
    const isManifest = found.size === 1;
    const target = join(folder, entry.path);
    mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
    const fd = openSync(target, "wx", 0o600);
    opened.add(fd);
    return {
      write(chunk: Buffer) {
        unpacked.hash.update(chunk);
        unpacked.bytes += chunk.length;
        if (isManifest) head = Buffer.concat([head, chunk]);
        writeSync(fd, chunk);
      },
      close() {
        opened.delete(fd);
        closeSync(fd);
        if (isManifest) manifest = manifestFrom(file, head);
      },
    };
  };
  const refusal = await readTar(inflated(file), limits, open).finally(() => {
    for (const fd of opened) closeSync(fd);
  });
  if (refusal !== undefined) throw bad(file, refusal);
  if (manifest === undefined) throw bad(file, "it has no manifest");
  for (const { path, bytes, sha256 } of manifest.files) {
    const unpacked = found.get(path);
    if (unpacked === undefined) throw bad(file, `${path} is missing`);
    if (unpacked.bytes !== bytes || unpacked.hash.digest("hex") !== sha256) throw bad(file, `${path} has been changed`);
  }
  return manifest;
}

async function* inflated(file: string): AsyncGenerator<Buffer> {
  const [source, inflating] = [createReadStream(file), createZstdDecompress()];
  source.on("error", (error) => inflating.destroy(error));
  try {
    for await (const chunk of source.pipe(inflating)) yield chunk as Buffer;
  } catch (error) {
    // What the disk says of itself is no word on the file.
    throw (error as NodeJS.ErrnoException).syscall === undefined ? bad(file, messageOf(error)) : error;
  } finally {
    source.destroy();
  }
}

function manifestFrom(file: string, bytes: Buffer): BackupManifest {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString());
  } catch {
    throw bad(file, "its manifest cannot be read");
  }
  const { success, data } = BackupManifest.safeParse(json);
  if (!success) throw bad(file, "it is of another program, or of a newer flashyard: restore it with that");
  const known = new Set(keptStreams.map(({ stream }) => streamFile(stream)));
  const other = data.files.find(({ path }) => !known.has(path) && nameInIdentity(path) === undefined);
  if (other !== undefined) {
    throw bad(
      file,
      `it holds ${JSON.stringify(other.path)}, which this flashyard (version of it: ${data.version}) does not know`,
    );
  }
  if (new Set(data.files.map(({ path }) => path)).size !== data.files.length) throw bad(file, "a file is in it twice");
  return data;
}

async function checkLines(file: string, folder: string, { path, messages }: BackupFile): Promise<void> {
  const kept = keptStreams.find(({ stream }) => streamFile(stream) === path);
  let lines = 0;
  for await (const { subject } of messagesIn(join(folder, path))) {
    lines += 1;
    if (subject === undefined || kept?.stream === undefined || !subject.startsWith(kept.prefix)) {
      throw bad(file, `line ${lines} of ${path} is none of its stream`);
    }
  }
  if (lines !== messages) throw bad(file, `${path} has ${lines} messages, not ${messages}`);
}

/** The messages of a stream's file in their order; an empty one for a line that is none. */
export async function* messagesIn(
  path: string,
): AsyncGenerator<{ readonly subject?: string; readonly body: Uint8Array }> {
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) yield messageOfLine(line) ?? { body: new Uint8Array() };
}

/** Whole contents of a small file. */
export function contentOf(backup: Backup, name: string): Promise<Buffer> {
  return readFile(backup.pathOf(name));
}

function bad(file: string, reason: string): UsageError {
  return new UsageError("bad-backup", `${file} is no whole backup: ${reason}`);
}
