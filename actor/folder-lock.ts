/**
 * A lock between processes: a folder of numbered tickets.
 *
 * 1. Whoever made the highest ticket that is neither released nor abandoned holds the lock. A ticket comes into being with
 *    its content by link(2), which fails when the number is taken, so of two that try only one succeeds.
 * 2. Numbers only grow: a release empties the ticket and leaves it; one is deleted only when a higher one exists. Two that
 *    judged the same ticket dead therefore race for one number, nobody can delete a lock that he has misjudged, and who
 *    made a ticket from an outdated list sees the higher one afterwards and steps back.
 * 3. A holder that was killed is noticed: on the same machine by its process id and start time (a zombie is dead), across
 *    containers and machines, where process ids mean nothing, by a ticket that has not been touched for 30 s.
 *
 * Node has no flock(2); a plain exclusive file either wedges after kill -9 or is stolen by two at once.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, readdir, readFile, readlink, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Clock } from "#actor/clock.ts";

/** How often a holder touches its ticket; six missed touches make it abandoned. */
const touchMs = 5_000;
/** Shorter robs a holder that was paused; longer delays whoever comes after a crash in another container. */
const abandonedMs = 30_000;
const pollMs = 100;

interface Ticket {
  readonly pid: number;
  /** Start of the process in the kernel's count; tells it from a later one with the same id. */
  readonly startTime: string;
  /** Boot and process-id namespace: only inside the same one can a process id be asked for. */
  readonly world: string;
}

export interface FolderLockOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Called once when somebody else holds the lock. */
  readonly onWait?: ((holderPid: number) => void) | undefined;
}

/** Waits for the lock. Dispose it to release. @returns undefined when the signal fired first. */
export async function lockFolder(folder: string, options: FolderLockOptions): Promise<AsyncDisposable | undefined> {
  await mkdir(folder, { recursive: true });
  const self: Ticket = { pid: process.pid, ...(await lifeOf(process.pid)), world: await ownWorld() };
  let hasWaited = false;
  for (;;) {
    if (options.signal?.aborted === true) return undefined;
    const numbers = await ticketNumbers(folder);
    const highest = numbers.at(-1) ?? 0;
    const holder = highest === 0 ? undefined : await liveHolder(folder, highest, self.world, options.clock);
    if (holder === undefined && (await makeTicket(folder, highest + 1, self))) {
      const outdated = ((await ticketNumbers(folder)).at(-1) ?? 0) > highest + 1;
      const useless = outdated ? [highest + 1] : numbers;
      await Promise.all(useless.map((number) => rm(join(folder, String(number)), { force: true })));
      if (!outdated) return held(join(folder, String(highest + 1)), options.clock);
    }
    if (holder !== undefined && !hasWaited) {
      hasWaited = true;
      options.onWait?.(holder.pid);
    }
    if (holder !== undefined) await options.clock.pause(pollMs, options.signal);
  }
}

function held(path: string, clock: Clock): AsyncDisposable {
  const ended = new AbortController();
  const touching = (async () => {
    while (await clock.pause(touchMs, ended.signal)) {
      const now = clock.now() / 1000;
      await utimes(path, now, now).catch(() => undefined);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      ended.abort();
      await touching;
      // Emptying needs no room, so a full disk cannot keep a lock held.
      await truncate(path).catch(() => undefined);
    },
  };
}

/** @returns false when somebody else has made a ticket of this number. */
async function makeTicket(folder: string, number: number, ticket: Ticket): Promise<boolean> {
  const draft = join(folder, `draft-${ticket.pid}-${randomBytes(4).toString("hex")}`);
  try {
    await writeFile(draft, JSON.stringify(ticket));
    await link(draft, join(folder, String(number)));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

async function ticketNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .map(Number)
    .filter((number) => Number.isInteger(number))
    .sort((a, b) => a - b);
}

async function liveHolder(folder: string, number: number, world: string, clock: Clock): Promise<Ticket | undefined> {
  const path = join(folder, String(number));
  try {
    const ticket = JSON.parse(await readFile(path, "utf8")) as Ticket;
    if (ticket.world === world && ticket.startTime !== "") {
      return (await lifeOf(ticket.pid)).startTime === ticket.startTime ? ticket : undefined;
    }
    const { mtimeMs } = await stat(path);
    return clock.now() - mtimeMs < abandonedMs ? ticket : undefined;
  } catch {
    // Empty is released. Deleted means that a newer holder exists: making the next number then fails or is outdated.
    return undefined;
  }
}

/** Field 22 of the kernel's `stat` line; empty for a process that is gone, a zombie, or where there is no /proc. */
async function lifeOf(pid: number): Promise<{ startTime: string }> {
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The command name in parentheses may hold spaces and parentheses itself.
  const [state, ...fields] = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return { startTime: state === "Z" || state === "X" ? "" : (fields[18] ?? "") };
}

async function ownWorld(): Promise<string> {
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => hostname());
  const namespace = await readlink("/proc/self/ns/pid").catch(() => "");
  return `${boot.trim()} ${namespace}`;
}
