/**
 * Takes ESPHome environments away, as `toolchain/esphome-environment.ts` lays them out: a folder for each version.
 *
 * 1. An environment goes under its version's lock, and only when no process has a mark of its use (`toolchain/marks-of-use.ts`):
 *    its marker is hidden, the marks are looked at once more, and then everything is deleted.
 * 2. Whoever gets the lock first shows again what a killed process has hidden: it may be in use.
 */
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#actor/clock.ts";
import type { Log } from "#actor/log.ts";
import { isInUse, lockAtOnce } from "#toolchain/marks-of-use.ts";

export interface EnvironmentRoom {
  /** Holds a folder for each version. */
  readonly root: string;
  readonly clock: Clock;
  readonly log?: Log | undefined;
}

/** Where the marks of those who use a version are. */
export const usersOf = (folder: string) => join(folder, "users");
export const markerOf = (folder: string) => join(folder, "ready.json");
const hiddenOf = (folder: string) => join(folder, "hidden.json");

/**
 * Takes away the environments that were used longest ago until `keepMax` are left, and what killed processes have left of others.
 * What is in use stays, and so does `made`. It costs a few reads for each version, and a second for each environment that goes.
 */
export async function makeRoom({ root, clock, log }: EnvironmentRoom, made: string, keepMax: number): Promise<void> {
  const versions = (await readdir(root).catch(() => [])).filter((version) => version !== made);
  const found = await Promise.all(
    versions.map(async (version) => ({ version, usedAt: await usedAt(join(root, version)) })),
  );
  let left = 1 + found.filter(({ usedAt }) => usedAt !== undefined).length;
  for (const { version, usedAt } of found.toSorted((a, b) => (a.usedAt ?? 0) - (b.usedAt ?? 0))) {
    const wasReady = usedAt !== undefined;
    if (wasReady && left <= keepMax) break;
    try {
      if (!(await takeAway(join(root, version), clock)) || !wasReady) continue;
      left -= 1;
      log?.info({ version }, "an ESPHome environment that was not used for long is removed");
    } catch (error) {
      log?.warn({ err: error, version }, "an ESPHome environment cannot be removed");
    }
  }
}

/** Invariant 1. @returns false when it is in use or being made. Throws what the file system throws. */
async function takeAway(folder: string, clock: Clock): Promise<boolean> {
  if (await isInUse(usersOf(folder), clock)) return false;
  await using lock = await lockAtOnce(join(folder, "lock"), clock);
  if (lock === undefined) return false;
  await moveIfThere(markerOf(folder), hiddenOf(folder));
  if (await isInUse(usersOf(folder), clock)) {
    await showHidden(folder);
    return false;
  }
  await discardUnready(folder);
  return true;
}

/** Invariant 2. */
export function showHidden(folder: string): Promise<void> {
  return moveIfThere(hiddenOf(folder), markerOf(folder));
}

/** Half-made environments, and a marker whose environment is broken. For whoever holds the lock. */
export async function discardUnready(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await Promise.all([markerOf(folder), hiddenOf(folder)].map((marker) => rm(marker, { force: true })));
  const names = (await readdir(folder)).filter((name) => name.startsWith("env-"));
  // A pip that outlived its parent may still write into one; what cannot be swept now goes with the next environment.
  const sweep = (name: string) => rm(join(folder, name), { recursive: true, force: true, maxRetries: 3 });
  await Promise.allSettled(names.map(sweep));
}

/** The last use of an environment is the time of its marker. */
export async function noteUse(folder: string, clock: Clock): Promise<void> {
  const now = clock.now() / 1000;
  // The environment of another user of the machine is used all the same.
  await utimes(markerOf(folder), now, now).catch(() => undefined);
}

/** @returns undefined for what is not ready. */
async function usedAt(folder: string): Promise<number | undefined> {
  return (await stat(markerOf(folder)).catch(() => undefined))?.mtimeMs;
}

async function moveIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
