/**
 * Who works at this moment with something that others may take away: a folder with a mark for each user.
 *
 * 1. A mark is a lock of its own (`actor/folder-lock.ts`). A process that was killed therefore leaves none that counts, also not in
 *    another container.
 * 2. Who marks looks afterwards whether the thing is there; who takes it away hides it first and looks for marks afterwards. So
 *    one of the two always sees the other.
 */
import { randomBytes } from "node:crypto";
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";

/** A mark that is younger may be one whose maker has not locked it yet, and is not swept. */
const sweptMsMin = 3_600_000;

/** Dispose it when the use is over; a process that ends without that is no user any more. Throws what the file system throws. */
export async function markUse(folder: string, clock: Clock): Promise<AsyncDisposable> {
  await sweep(folder, clock);
  const place = join(folder, randomBytes(8).toString("hex"));
  const mark = await lockFolder(place, { clock: { ...clock, pause: pauseInBackground } });
  return {
    async [Symbol.asyncDispose]() {
      await mark?.[Symbol.asyncDispose]();
      await rm(place, { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined);
    },
  };
}

/** True when any live process has a mark; also when that cannot be found out. */
export async function isInUse(folder: string, clock: Clock): Promise<boolean> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (await isHeld(join(folder, name), clock)) return true;
  }
  return false;
}

/** @returns undefined when somebody else holds the lock. Throws what the file system throws. */
export function lockAtOnce(folder: string, clock: Clock): Promise<AsyncDisposable | undefined> {
  const isTaken = new AbortController();
  return lockFolder(folder, { clock, signal: isTaken.signal, onWait: () => isTaken.abort() });
}

async function isHeld(place: string, clock: Clock): Promise<boolean> {
  try {
    const lock = await lockAtOnce(place, clock);
    await lock?.[Symbol.asyncDispose]();
    return lock === undefined;
  } catch (error) {
    // Its user has taken it away meanwhile.
    return (error as NodeJS.ErrnoException).code !== "ENOENT";
  }
}

/** Marks of processes that have ended without taking them away. */
async function sweep(folder: string, clock: Clock): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const place = join(folder, name);
    const made = await stat(place).catch(() => undefined);
    const isOld = made !== undefined && clock.now() - made.mtimeMs > sweptMsMin;
    if (isOld && !(await isHeld(place, clock)))
      await rm(place, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** A mark alone keeps no process running. */
async function pauseInBackground(ms: number, signal?: AbortSignal): Promise<boolean> {
  return delay(ms, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) }).then(
    () => true,
    () => false,
  );
}
