/**
 * One owner for each port, among everything of flashyard on this machine, and a look at who else has it.
 *
 * 1. Whoever flashes or reads a port owns it first: a lock between processes by the port's real path (`actor/folder-lock.ts`). Others
 *    wait in turn; no two are ever at one port.
 * 2. Who reads, or waits to read, is asked to leave when somebody of the same process wants to flash; one that flashes is waited for.
 * 3. Programs that are not ours do not know that lock. Those that lock the device itself (esptool, picocom, serialport: flock) are
 *    seen before anything is done; the rest is refused by the kernel or noticed by the tool.
 */
import { readFile, realpath, stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { Clock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";

export interface PortOwnersOptions {
  /** The same for every agent of this machine: the cache folder. */
  readonly folder: string;
  readonly clock: Clock;
}

export interface OwnOptions {
  readonly signal: AbortSignal;
  /** How long others are waited for. */
  readonly waitMs: number;
  /** Somebody else has it. */
  readonly onWait?: (holderPid: number) => void;
  /** Invariant 2: given by who only reads. */
  readonly onAsked?: () => void;
}

export type Owned =
  | { readonly kind: "owned"; readonly lock: AsyncDisposable }
  /** Others had it for the whole wait. */
  | { readonly kind: "busy"; readonly holderPid: number | undefined }
  | { readonly kind: "stopped" };

/** Who of this process is at a port, or waits for it. */
interface Place {
  readonly readers: Set<() => void>;
  flashes: number;
}

export class PortOwners {
  readonly #options: PortOwnersOptions;
  readonly #places = new Map<string, Place>();

  constructor(options: PortOwnersOptions) {
    this.#options = options;
  }

  /** @param path of the device, or a name for what has none. Throws what the file system throws. */
  async own(path: string, options: OwnOptions): Promise<Owned> {
    const real = isAbsolute(path) ? await realpath(path).catch(() => path) : path;
    const { clock, folder } = this.#options;
    const leave = this.#enter(real, options.onAsked);
    const isOver = new AbortController();
    const late = clock.pause(options.waitMs, isOver.signal).then((wasLate) => (wasLate ? isOver.abort() : undefined));
    let holderPid: number | undefined;
    let lock: AsyncDisposable | undefined;
    try {
      lock = await lockFolder(join(folder, "ports", real.replaceAll(/[^A-Za-z0-9]+/g, "-")), {
        clock,
        signal: AbortSignal.any([options.signal, isOver.signal]),
        onWait: (pid) => {
          holderPid = pid;
          options.onWait?.(pid);
        },
      });
      if (lock !== undefined) return { kind: "owned", lock: thenLeaving(lock, leave) };
      return options.signal.aborted ? { kind: "stopped" } : { kind: "busy", holderPid };
    } finally {
      if (lock === undefined) leave();
      isOver.abort();
      await late;
    }
  }

  /** Invariant 2, whichever of the two comes first. @returns what is called when it is over */
  #enter(path: string, onAsked: (() => void) | undefined): () => void {
    const place = this.#places.get(path) ?? { readers: new Set(), flashes: 0 };
    this.#places.set(path, place);
    if (onAsked === undefined) {
      place.flashes += 1;
      for (const ask of place.readers) ask();
      return () => (place.flashes -= 1);
    }
    place.readers.add(onAsked);
    if (place.flashes > 0) onAsked();
    return () => place.readers.delete(onAsked);
  }
}

function thenLeaving(lock: AsyncDisposable, leave: () => void): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      leave();
      await lock[Symbol.asyncDispose]();
    },
  };
}

/** Invariant 3. @returns the process that has locked the device, as a person reads it; undefined where nobody has or nobody can tell. */
export async function holderOf(path: string): Promise<string | undefined> {
  const [locks, file] = await Promise.all([
    readFile("/proc/locks", "utf8").catch(() => ""),
    isAbsolute(path) ? stat(path).catch(() => undefined) : undefined,
  ]);
  if (file === undefined) return undefined;
  // `1: FLOCK  ADVISORY  WRITE 4711 00:1c:5 0 EOF`; a waiting one has an arrow behind its number.
  const ours = locks
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .find(
      ([, type, , , , place]) => type === "FLOCK" && place?.endsWith(`:${file.ino}`) && isOfDevice(place, file.dev),
    );
  const pid = ours?.[4];
  if (pid === undefined) return undefined;
  const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
  return name.trim() === "" ? `process ${pid}` : `${name.trim()} (process ${pid})`;
}

/** The kernel's own numbers of the file system, hexadecimal, as `stat` packs them. */
function isOfDevice(place: string, dev: number): boolean {
  const [major = "", minor = ""] = place.split(":");
  return (
    Number.parseInt(major, 16) === ((dev >> 8) & 0xfff) &&
    Number.parseInt(minor, 16) === ((dev & 0xff) | ((dev >> 12) & 0xfff00))
  );
}
