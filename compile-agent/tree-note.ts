/** What stands beside a build tree: whose it is, when it was used last, and how much of the disk it takes. */
import { randomBytes } from "node:crypto";
import { lstat, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { WarmTree } from "#protocol/agent.ts";

const TreeNote = WarmTree.extend({ v: z.literal(1) });

/** @returns undefined when there is no note, or none that can be read. */
export async function readTreeNote(folder: string): Promise<WarmTree | undefined> {
  try {
    const { v: _v, ...tree } = TreeNote.parse(JSON.parse(await readFile(join(folder, "tree.json"), "utf8")));
    return tree;
  } catch {
    return undefined;
  }
}

/** By rename, so that a killed process never leaves half a note. Throws what the file system throws. */
export async function writeTreeNote(folder: string, tree: WarmTree): Promise<void> {
  const draft = join(folder, `draft-${randomBytes(4).toString("hex")}`);
  try {
    await writeFile(draft, JSON.stringify({ v: 1, ...tree }));
    await rename(draft, join(folder, "tree.json"));
  } finally {
    await rm(draft, { force: true });
  }
}

/**
 * What a folder takes of the disk, in bytes, links not followed; what comes or goes meanwhile is counted or not. Asking for each
 * file takes 25 to 50 µs on a busy machine of two processors: 5,000 files 0.1 to 0.25 s, 14,000 files 0.35 s (2026-11).
 */
export async function measureTree(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  let bytes = 0;
  const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(folder, entry.name));
  for (const size of await Promise.all(files.map(bytesOnDisk))) bytes += size;
  for (const entry of entries) if (entry.isDirectory()) bytes += await measureTree(join(folder, entry.name));
  return bytes;
}

/** Blocks, because the many small files of a build take more than they have. */
async function bytesOnDisk(file: string): Promise<number> {
  const found = await lstat(file).catch(() => undefined);
  return found === undefined ? 0 : found.blocks * 512;
}
