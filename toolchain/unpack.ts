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
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import type { Digest } from "#protocol/ids.ts";
import { digestOf } from "#actor/digest.ts";
import { bundleLimits, readArchive, type ArchiveEntry, type ArchiveLimits } from "#toolchain/archive.ts";
import { failed, fileFailure, type Attempt, type Stop } from "#toolchain/attempt.ts";

/** Our own corner of a build folder: the stage and the record. */
const ownFolder = ".flashyard";
/** ESPHome's corner: the warm tree. A bundle may bring downloads for it (fonts, images), but never replaces anything there. */
const warmFolder = ".esphome";
const builtInWarmFolder = new Set(["build", "storage", "idedata"]);

export interface UnpackOptions {
  readonly expectedDigest?: Digest;
  readonly limits?: ArchiveLimits;
}

/** @returns the paths of the bundle's files inside `folder`. Failures: `bundle-refused`, `disk-full`. */
export async function unpackBundle(
  bytes: Buffer,
  folder: string,
  options: UnpackOptions = {},
): Promise<Attempt<{ readonly files: readonly string[] }>> {
  const found = digestOf(bytes);
  if (options.expectedDigest !== undefined && found !== options.expectedDigest) {
    return refused(`its digest is ${found}, wanted is ${options.expectedDigest}`);
  }
  try {
    const own = join(folder, ownFolder);
    await clearWay(folder, ownFolder, new Set());
    await dropStages(own);
    const stage = await mkdtemp(join(own, "stage-"));
    try {
      const staged = await fillStage(bytes, stage, options.limits ?? bundleLimits);
      if (typeof staged === "string") return refused(staged);
      await adopt(stage, folder, staged);
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
  bytes: Buffer,
  stage: string,
  limits: ArchiveLimits,
): Promise<readonly ArchiveEntry[] | string> {
  const files: ArchiveEntry[] = [];
  const open: { fd: number }[] = [];
  let reserved: string | undefined;
  try {
    const refusal = await readArchive(bytes, limits, (entry) => {
      const [top, second = ""] = entry.path.split("/");
      if (top === ownFolder) reserved ??= `${ownFolder} is a reserved name`;
      if (entry.kind === "folder" || reserved !== undefined) return undefined;
      if (top === warmFolder && builtInWarmFolder.has(second)) return undefined;
      mkdirSync(dirname(join(stage, entry.path)), { recursive: true });
      const file = { fd: openSync(join(stage, entry.path), "wx", entry.isExecutable ? 0o755 : 0o644) };
      open.push(file);
      files.push(entry);
      return {
        write: (chunk) => writeSync(file.fd, chunk),
        close: () => {
          open.splice(open.indexOf(file), 1);
          closeSync(file.fd);
        },
      };
    });
    return refusal ?? reserved ?? files;
  } finally {
    for (const { fd } of open) closeSync(fd);
  }
}

/** Moves the staged files into place (invariants 2 to 4). */
async function adopt(stage: string, folder: string, staged: readonly ArchiveEntry[]): Promise<void> {
  const isWarm = (entry: ArchiveEntry) => entry.path.startsWith(`${warmFolder}/`);
  const files = staged.filter((entry) => !isWarm(entry)).map((entry) => entry.path);
  const former = await readRecord(folder);
  if (former === undefined) await sweep(folder);
  await writeRecord(folder, [...new Set([...(former ?? []), ...files])]);
  const checked = new Set<string>();
  const now = new Set(files);
  for (const path of former ?? []) if (!now.has(path)) await remove(folder, path, checked);
  for (const entry of staged) {
    await clearWay(folder, dirname(entry.path), checked);
    const target = join(folder, entry.path);
    const there = await lstat(target).catch(() => undefined);
    if (there !== undefined && isWarm(entry)) continue;
    if (there?.isFile() === true && (await isSame(join(stage, entry.path), target, entry, there.mode))) continue;
    // A folder or link in the way is not replaced by rename.
    if (there !== undefined && !there.isFile()) await rm(target, { recursive: true, force: true });
    await rename(join(stage, entry.path), target);
  }
  await writeRecord(folder, files);
}

async function isSame(staged: string, target: string, entry: ArchiveEntry, mode: number): Promise<boolean> {
  if (((mode & 0o100) !== 0) !== entry.isExecutable) return false;
  const [fresh, old] = await Promise.all([readFile(staged), readFile(target)]);
  return fresh.equals(old);
}

/** Makes `path` a chain of real folders; links and files in its place are removed (invariant 4). */
async function clearWay(folder: string, path: string, checked: Set<string>): Promise<void> {
  if (path === "." || checked.has(path)) return;
  await clearWay(folder, dirname(path), checked);
  const target = join(folder, path);
  const there = await lstat(target).catch(() => undefined);
  if (there !== undefined && !there.isDirectory()) await rm(target, { force: true });
  await mkdir(target, { recursive: true });
  checked.add(path);
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

const Record = z.array(z.string());

async function readRecord(folder: string): Promise<readonly string[] | undefined> {
  try {
    return Record.parse(JSON.parse(await readFile(join(folder, ownFolder, "files.json"), "utf8")));
  } catch {
    return undefined;
  }
}

async function writeRecord(folder: string, files: readonly string[]): Promise<void> {
  const path = join(folder, ownFolder, "files.json");
  await writeFile(`${path}.draft`, JSON.stringify(files));
  await rename(`${path}.draft`, path);
}

/** Without a record nobody knows what belongs to a bundle: everything goes but the warm tree. */
async function sweep(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name !== ownFolder && name !== warmFolder);
  await Promise.all(names.map((name) => rm(join(folder, name), { recursive: true, force: true })));
}
