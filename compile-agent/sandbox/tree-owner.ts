/**
 * Whose the files of a tree are. A tree of the level `user` has a folder `tmp` beside its source, which belongs to whom the tree does.
 *
 * 1. No build runs in a tree while its owner changes, so that nothing moves on the way.
 * 2. The folder `source` itself and the record in it stay the agent's: the build user may make files there, and removes only its own.
 */
import { chmod, chown, lchown, lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Tree } from "#compile-agent/workspace.ts";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Sticky: nobody but its owner removes what stands in it, above all the record. */
const sourceMode = 0o1770;
const plainMode = 0o755;

/** The owner of this process. */
export function ourselves(): Owner {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}

/** Lets one group through a folder of ours, and nobody see what is in it. Throws what the file system throws. */
export async function letPass(folder: string, { gid }: Owner): Promise<void> {
  await chown(folder, ourselves().uid, gid);
  await chmod(folder, 0o710);
}

/** A folder that is its owner's alone. */
export async function ownFolder(folder: string, { uid, gid }: Owner): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chown(folder, uid, gid);
  await chmod(folder, 0o700);
}

/** Makes a tree the build user's, unless it is. @returns its folder for temporary files, empty. */
export async function giveTree({ folder, source }: Tree, owner: Owner): Promise<string> {
  const temporary = join(folder, "tmp");
  const before = await lstat(temporary).catch(() => undefined);
  if (before?.uid !== owner.uid) {
    await giveAll(source, owner);
    await chown(source, ourselves().uid, owner.gid);
    await chmod(source, sourceMode);
  }
  await letPass(folder, owner);
  await rm(temporary, { recursive: true, force: true });
  await ownFolder(temporary, owner);
  return temporary;
}

/** For a level whose builds run as the agent's user: takes back what an earlier one has given away. */
export async function takeTreeBack({ folder, source }: Tree): Promise<void> {
  const temporary = join(folder, "tmp");
  if ((await lstat(temporary).catch(() => undefined)) === undefined) return;
  await giveAll(source, ourselves());
  await chown(source, ourselves().uid, ourselves().gid);
  await chmod(source, plainMode);
  await rm(temporary, { recursive: true, force: true });
}

/** Invariant 2: all but the record. Links are not followed. */
async function giveAll(folder: string, owner: Owner, isTop = true): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (isTop && entry.name === ".flashyard") continue;
    const path = join(folder, entry.name);
    await lchown(path, owner.uid, owner.gid);
    if (entry.isDirectory()) await giveAll(path, owner, false);
  }
}
