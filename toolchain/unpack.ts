/**
 * Unpacking a bundle into a build folder that stays warm.
 *
 * 1. A refused bundle changes nothing in the folder: everything is staged and checked first.
 * 2. After success the folder holds exactly this bundle's files, plus what builds have made there. Files of an earlier
 *    bundle are known from the record `.flashyard/files.json` and go; unchanged files keep their modification time, so
 *    that an incremental build stays incremental.
 * 3. The record lists old and new files before the first one is moved; a killed process leaves nothing unlisted.
 * 4. Nothing is written through a link that a build left behind.
 */
import { closeSync, createReadStream, fchownSync, mkdirSync, openSync, type Stats, writeSync } from "node:fs";
import { lchown, lstat, mkdir, mkdtemp, open, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { bundleLimits, folded, readTar, type ArchiveEntry, type ArchiveLimits } from "#toolchain/archive.ts";
import { failed, fileFailure, type Attempt, type Stop } from "#toolchain/attempt.ts";

/** Our own corner of a build folder: the stage and the record. */
const ownFolder = ".flashyard";
/** ESPHome's corner: the warm tree. A bundle may bring downloads for it (fonts, images), but never replaces anything there. */
const warmFolder = ".esphome";
const builtInWarmFolder = new Set(["build", "storage", "idedata"]);

/** Files are compared this much at a time. */
const compareBytes = 256 * 1024;

export interface UnpackOptions {
  readonly limits?: ArchiveLimits;
  /** Whose the bundle's files and folders are to be; absent: this process's user's. */
  readonly owner?: Owner | undefined;
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Unpacks a bundle that `inflateBundle` has made a tar of.
 * @returns the paths of the bundle's files inside `folder`. Failures: `bundle-refused`, `disk-full`.
 */
export async function unpackBundle(
  tar: string,
  folder: string,
  { limits = bundleLimits, owner }: UnpackOptions = {},
): Promise<Attempt<{ readonly files: readonly string[] }>> {
  try {
    const own = join(folder, ownFolder);
    await clearWay(folder, ownFolder, new Set());
    await dropStages(own);
    const stage = await mkdtemp(join(own, "stage-"));
    try {
      const staged = await fillStage(tar, stage, limits, owner);
      if (typeof staged === "string") return refused(staged);
      await adopt(stage, folder, staged, owner);
      return { ok: true, files: staged.map((entry) => entry.path) };
    } finally {
      await rm(stage, { recursive: true, force: true });
    }
  } catch (error) {
    return failed(fileFailure(error, folder));
  }
}

function refused(reason: string): Stop {
  return failed({ kind: "bundle-refused", reason });
}

/** What a killed predecessor left. */
async function dropStages(own: string): Promise<void> {
  const names = (await readdir(own).catch(() => [])).filter((name) => name.startsWith("stage-"));
  await Promise.all(names.map((name) => rm(join(own, name), { recursive: true, force: true })));
}

/** @returns the files as they were staged, or the reason to refuse the bundle. */
async function fillStage(
  tar: string,
  stage: string,
  limits: ArchiveLimits,
  owner: Owner | undefined,
): Promise<readonly ArchiveEntry[] | string> {
  const files: ArchiveEntry[] = [];
  const opened: { fd: number }[] = [];
  let reserved: string | undefined;
  try {
    const refusal = await readTar(createReadStream(tar), limits, (entry) => {
      const [top, second = ""] = folded(entry.path).split("/");
      if (top === ownFolder) reserved ??= `${ownFolder} is a reserved name`;
      if (entry.kind === "folder" || reserved !== undefined) return undefined;
      if (top === warmFolder && builtInWarmFolder.has(second)) return undefined;
      mkdirSync(dirname(join(stage, entry.path)), { recursive: true });
      const file = { fd: openSync(join(stage, entry.path), "wx", entry.isExecutable ? 0o755 : 0o644) };
      opened.push(file);
      if (owner !== undefined) fchownSync(file.fd, owner.uid, owner.gid);
      files.push(entry);
      return {
        write: (chunk) => writeSync(file.fd, chunk),
        close: () => {
          opened.splice(opened.indexOf(file), 1);
          closeSync(file.fd);
        },
      };
    });
    return refusal ?? reserved ?? files;
  } finally {
    for (const { fd } of opened) closeSync(fd);
  }
}

/** Moves the staged files into place (invariants 2 to 4). */
async function adopt(
  stage: string,
  folder: string,
  staged: readonly ArchiveEntry[],
  owner: Owner | undefined,
): Promise<void> {
  const isWarm = (entry: ArchiveEntry) => entry.path.startsWith(`${warmFolder}/`);
  const files = staged.filter((entry) => !isWarm(entry)).map((entry) => entry.path);
  const former = await readRecord(folder);
  if (former === undefined) await sweep(folder);
  await writeRecord(folder, [...new Set([...(former ?? []), ...files])]);
  const checked = new Set<string>();
  const now = new Set(files);
  for (const path of former ?? []) if (!now.has(path)) await remove(folder, path, checked);
  for (const entry of staged) {
    await clearWay(folder, dirname(entry.path), checked, owner);
    const target = join(folder, entry.path);
    const there = await lstat(target).catch(() => undefined);
    if (there !== undefined && isWarm(entry)) continue;
    if (there?.isFile() === true && (await isSame(join(stage, entry.path), target, entry, there))) continue;
    // A folder or link in the way is not replaced by rename.
    if (there !== undefined && !there.isFile()) await rm(target, { recursive: true, force: true });
    await rename(join(stage, entry.path), target);
  }
  await writeRecord(folder, files);
}

async function isSame(staged: string, target: string, entry: ArchiveEntry, there: Stats): Promise<boolean> {
  if (((there.mode & 0o100) !== 0) !== entry.isExecutable) return false;
  await using fresh = await open(staged);
  await using old = await open(target);
  if ((await fresh.stat()).size !== there.size) return false;
  const [a, b] = [Buffer.alloc(compareBytes), Buffer.alloc(compareBytes)];
  for (let at = 0; at < there.size; at += compareBytes) {
    const [one, other] = await Promise.all([fresh.read(a, 0, compareBytes, at), old.read(b, 0, compareBytes, at)]);
    if (!a.subarray(0, one.bytesRead).equals(b.subarray(0, other.bytesRead))) return false;
  }
  return true;
}

/** Makes `path` a chain of real folders; links and files in its place are removed (invariant 4). */
async function clearWay(folder: string, path: string, checked: Set<string>, owner?: Owner): Promise<void> {
  if (path === "." || checked.has(path)) return;
  await clearWay(folder, dirname(path), checked, owner);
  const target = join(folder, path);
  const there = await lstat(target).catch(() => undefined);
  if (there !== undefined && !there.isDirectory()) await rm(target, { force: true });
  const made = await mkdir(target, { recursive: true });
  if (made !== undefined && owner !== undefined) await lchown(target, owner.uid, owner.gid);
  checked.add(path);
}

/** Removes files of the bundle, which the next unpacking brings again; never through a link that a build left behind. */
export async function removeFiles(folder: string, files: readonly string[]): Promise<void> {
  const checked = new Set<string>();
  for (const path of files) await remove(folder, path, checked);
}

/** Removes a file of an earlier bundle, and the folders that it leaves empty. */
async function remove(folder: string, path: string, checked: Set<string>): Promise<void> {
  for (let above = dirname(path); above !== "."; above = dirname(above)) {
    const there = await lstat(join(folder, above)).catch(() => undefined);
    if (there?.isDirectory() !== true) return;
  }
  await rm(join(folder, path), { force: true, recursive: true });
  for (let above = dirname(path); above !== "."; above = dirname(above)) {
    const isEmpty = await rmdir(join(folder, above)).then(
      () => true,
      () => false,
    );
    if (!isEmpty) return;
    checked.delete(above);
  }
}

/** A build may have written the record: it names nothing outside of the folder. */
const Record = z.array(z.string().refine((path) => !path.split("/").includes("..")));

async function readRecord(folder: string): Promise<readonly string[] | undefined> {
  try {
    return Record.parse(JSON.parse(await readFile(join(folder, ownFolder, "files.json"), "utf8")));
  } catch {
    return undefined;
  }
}

async function writeRecord(folder: string, files: readonly string[]): Promise<void> {
  const path = join(folder, ownFolder, "files.json");
  // Invariant 4: neither through a link in the draft's place.
  await rm(`${path}.draft`, { recursive: true, force: true });
  await writeFile(`${path}.draft`, JSON.stringify(files), { flag: "wx" });
  await rename(`${path}.draft`, path);
}

/** Without a record nobody knows what belongs to a bundle: everything goes but the warm tree. */
async function sweep(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name !== ownFolder && name !== warmFolder);
  await Promise.all(names.map((name) => rm(join(folder, name), { recursive: true, force: true })));
}
