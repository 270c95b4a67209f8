/**
 * The build machine's folder: a tree per (ESPHome version, configuration) that stays warm, and a folder per result.
 *
 * 1. One build at a time works in a tree.
 * 2. Images are copied out of the tree before it is free again, so the next build cannot change what is being sent.
 * 3. A tree that is taken away leaves its place whole, by one rename, and only then is deleted: whatever interrupts that, no
 *    build and no statement of warm trees ever finds half of one.
 * 4. A tree is measured while it still belongs to the build that has ended in it, and behind the result, which does not wait. So
 *    nobody gets a tree that is walked, and what is stated of a free tree is what its last build has left.
 * 5. Room is made of trees that nobody has and nobody waits for.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { lstat, mkdir, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { type Clock, systemClock } from "#actor/clock.ts";
import type { WarmTree } from "#protocol/agent.ts";
import { type Configuration, Digest } from "#protocol/ids.ts";
import { measureTree, readTreeNote, writeTreeNote } from "#compile-agent/tree-note.ts";

export interface Tree {
  /** Notes on the tree. */
  readonly folder: string;
  /** Where the bundle is unpacked and the build runs. */
  readonly source: string;
  /** Nobody else gets the tree before this has settled, however the work in it ends. */
  keepFor(rest: Promise<unknown>): void;
}

/** A copy of an image; the file's name is its digest. */
export interface KeptImage {
  readonly digest: Digest;
  readonly path: string;
  readonly bytes: number;
}

/** Whose a tree is. */
export type TreeName = Pick<WarmTree, "version" | "configuration">;

export interface WorkspaceOptions {
  readonly clock?: Clock;
  /** Called when a tree is free again and its size is known. */
  readonly onMeasured?: () => void;
}

/** What is to be taken away: the trees of a configuration under every version, or all there are. */
export type TreesToRemove = { readonly configuration: Configuration } | "all";

/** What a removal came to. `stuck` is the first thing that could not be taken away; the rest was all the same. */
export interface Removal {
  /** Trees that were there and are gone. */
  readonly trees: number;
  readonly stuck?: { readonly path: string; readonly error: unknown; readonly isOut: boolean };
}

export interface RemovalOptions {
  readonly signal: AbortSignal;
  /** Called when all trees are out of their places, and nothing is deleted yet. */
  readonly onOut?: () => Promise<void>;
  /** Called for each tree that is gone. */
  readonly onGone?: () => void;
}

interface SizedTree {
  readonly place: string;
  readonly bytes: number;
  readonly usedAt: number;
}

/** Trees on their way out. */
interface Outgoing {
  readonly graves: string[];
  stuck?: Removal["stuck"];
}

/**
 * How much trees may take by default: a quarter of their disk, because the toolchains, the environments, and the farm's store on
 * the same machine need the rest; and 50 GB at most, because that is a hundred trees of half a gigabyte (one for the host has 80 MB)
 * and more would stay warm for nobody.
 */
export async function defaultTreesBytesMax(home: string): Promise<number> {
  const { blocks, bsize } = await statfs(home);
  return Math.min((blocks * bsize) / 4, treesBytesMax);
}

const treesBytesMax = 50_000_000_000;

export class Workspace {
  readonly #trees: string;
  readonly #results: string;
  /** Trees that are out of their places and wait for their end. */
  readonly #removed: string;
  /** Result folders that somebody works with. */
  readonly #resultsInUse = new Set<string>();
  /** The end of the line of those who want a tree, by its folder. */
  readonly #lines = new Map<string, Promise<void>>();
  readonly #clock: Clock;
  readonly #onMeasured: () => void;

  constructor(home: string, { clock = systemClock, onMeasured = () => {} }: WorkspaceOptions = {}) {
    this.#clock = clock;
    this.#onMeasured = onMeasured;
    this.#trees = join(home, "trees");
    this.#results = join(home, "results");
    this.#removed = join(home, "removed");
  }

  /**
   * Works in the tree of a configuration, alone (invariant 1).
   * @returns what `work` returned, or undefined when the signal fired while it waited for its turn.
   */
  async withTree<T>(
    { version, configuration }: TreeName,
    signal: AbortSignal | undefined,
    work: (tree: Tree) => Promise<T>,
  ): Promise<T | undefined> {
    const folder = join(this.#trees, escapeName(version), escapeName(configuration));
    const leave = await this.#queueFor(folder, signal);
    if (leave === undefined) return undefined;
    const rests: Promise<unknown>[] = [];
    try {
      const source = join(folder, "source");
      // A build may leave a program that runs as its owner (setuid): nobody else gets at it.
      await mkdir(this.#trees, { recursive: true, mode: 0o700 });
      await mkdir(source, { recursive: true });
      const before = await readTreeNote(folder);
      await writeTreeNote(folder, { ...before, version, configuration, usedAt: this.#clock.now() });
      return await work({ folder, source, keepFor: (rest) => rests.push(rest) });
    } finally {
      void Promise.allSettled(rests)
        .then(() => this.#measure(folder, { version, configuration, usedAt: this.#clock.now() }))
        .then(leave)
        .then(this.#onMeasured);
    }
  }

  /** Invariant 4. What cannot be noted now, e.g. on a full disk, is measured again when room is made. */
  async #measure(folder: string, tree: WarmTree): Promise<number> {
    const bytes = await measureTree(folder);
    await writeTreeNote(folder, { ...tree, bytes }).catch(() => undefined);
    return bytes;
  }

  /** Every tree that exists, the one that was used last first. */
  async warmTrees(): Promise<readonly WarmTree[]> {
    const notes = await Promise.all((await this.#placesOf("all")).map(readTreeNote));
    return notes.filter((note) => note !== undefined).toSorted((a, b) => (b.usedAt ?? 0) - (a.usedAt ?? 0));
  }

  /**
   * Takes away the trees that were used longest ago, until the rest takes no more than `bytesMax` (invariants 3 and 5). A tree
   * that is larger than that goes as well, as soon as it is free: the limit is a promise to whoever shares the disk.
   */
  async makeRoom(bytesMax: number, options: RemovalOptions): Promise<Removal | undefined> {
    await mkdir(this.#removed, { recursive: true, mode: 0o700 });
    const trees: SizedTree[] = [];
    for (const place of await this.#placesOf("all")) trees.push(await this.#sizeOf(place));
    let bytes = trees.reduce((sum, tree) => sum + tree.bytes, 0);
    const outgoing: Outgoing = { graves: [] };
    for (const tree of trees.toSorted((a, b) => a.usedAt - b.usedAt)) {
      if (bytes <= bytesMax) break;
      if (this.#lines.has(tree.place)) continue;
      // Nothing can come in between: the queue is entered before anything else runs.
      const leave = await this.#queueFor(tree.place, undefined);
      if (await this.#takeOut(tree.place, outgoing)) bytes -= tree.bytes;
      leave?.();
    }
    return this.#deleteOut(outgoing, options);
  }

  /** A tree without its size, or without a note, was left by a killed process; one in use is measured when it is free. */
  async #sizeOf(place: string): Promise<SizedTree> {
    const note = await readTreeNote(place);
    const { bytes, usedAt = 0 } = note ?? {};
    if (bytes !== undefined || this.#lines.has(place)) return { place, usedAt, bytes: bytes ?? 0 };
    const leave = await this.#queueFor(place, undefined);
    const measured = note === undefined ? await measureTree(place) : await this.#measure(place, note);
    leave?.();
    return { place, usedAt, bytes: measured };
  }

  /**
   * Takes trees away, each when the build in it has ended (invariant 3). `all` also takes away what builds have left elsewhere in
   * this folder: results that nobody sends any more, and trees of an interrupted removal. ESPHome's environments and the
   * toolchains of PlatformIO and ESP-IDF are the machine's, not a build's: they are shared and stay.
   * @returns undefined when the signal fired first; what was out of its place then is deleted by the next start or reset.
   */
  async removeTrees(which: TreesToRemove, options: RemovalOptions): Promise<Removal | undefined> {
    await mkdir(this.#removed, { recursive: true, mode: 0o700 });
    const outgoing: Outgoing = { graves: [] };
    for (const place of await this.#placesOf(which)) {
      const leave = await this.#queueFor(place, options.signal);
      if (leave === undefined) return undefined;
      await this.#takeOut(place, outgoing);
      leave();
    }
    const removal = await this.#deleteOut(outgoing, options);
    if (removal === undefined || which !== "all") return removal;
    const left = await this.removeLeftovers();
    return removal.stuck === undefined && left !== undefined ? { ...removal, stuck: left } : removal;
  }

  /** Invariant 3, its first half. @returns false when the tree stands as it was. */
  async #takeOut(place: string, outgoing: Outgoing): Promise<boolean> {
    try {
      const grave = join(this.#removed, randomBytes(8).toString("hex"));
      await rename(place, grave);
      outgoing.graves.push(grave);
      return true;
    } catch (error) {
      // A tree that another removal has taken first is gone as well.
      if (isAbsent(error)) return true;
      outgoing.stuck ??= { path: place, error, isOut: false };
      return false;
    }
  }

  /** Invariant 3, its second half. @returns undefined when the signal fired first. */
  async #deleteOut(outgoing: Outgoing, { signal, onOut, onGone }: RemovalOptions): Promise<Removal | undefined> {
    await onOut?.();
    let { stuck } = outgoing;
    let trees = 0;
    for (const grave of outgoing.graves) {
      if (signal.aborted) return undefined;
      const error = await remove(grave);
      if (error !== undefined) stuck ??= { path: grave, error, isOut: true };
      else {
        trees += 1;
        onGone?.();
      }
    }
    return stuck === undefined ? { trees } : { trees, stuck };
  }

  /**
   * Deletes what nobody uses: results of a killed predecessor, whose builds run again, and trees out of their places.
   * @returns the first thing that could not be deleted.
   */
  async removeLeftovers(): Promise<Removal["stuck"]> {
    let stuck: Removal["stuck"];
    const results = (await this.leftResults()).filter((folder) => !this.#resultsInUse.has(folder));
    const graves = (await readdir(this.#removed).catch(() => [])).map((name) => join(this.#removed, name));
    for (const path of [...results, ...graves]) {
      const error = await remove(path);
      if (error !== undefined) stuck ??= { path, error, isOut: true };
    }
    return stuck;
  }

  /** Folders of trees, also of those whose note a killed process has not written. */
  async #placesOf(which: TreesToRemove): Promise<readonly string[]> {
    const wanted = which === "all" ? undefined : escapeName(which.configuration);
    const places: string[] = [];
    for (const version of await readdir(this.#trees).catch(() => [])) {
      const names = await readdir(join(this.#trees, version)).catch(() => []);
      for (const name of names) if (name === (wanted ?? name)) places.push(join(this.#trees, version, name));
    }
    return places;
  }

  /** An empty folder for the images of one result; whoever has sent them drops it. */
  async resultFolder(): Promise<string> {
    const folder = join(this.#results, randomBytes(8).toString("hex"));
    this.#resultsInUse.add(folder);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  /** What cannot be deleted now is a leftover, and no reason for a job to fail. */
  async dropResult(folder: string): Promise<void> {
    this.#resultsInUse.delete(folder);
    await remove(folder);
  }

  /** Every result folder that is there. */
  async leftResults(): Promise<readonly string[]> {
    return (await readdir(this.#results).catch(() => [])).map((name) => join(this.#results, name));
  }

  /** Waits for the turn. @returns what to call to leave; undefined when the signal fired first. */
  async #queueFor(folder: string, signal: AbortSignal | undefined): Promise<(() => void) | undefined> {
    const { promise: left, resolve: leave } = Promise.withResolvers<void>();
    const before = this.#lines.get(folder) ?? Promise.resolve();
    const line = before.then(() => left);
    this.#lines.set(folder, line);
    const forget = async () => {
      await line;
      if (this.#lines.get(folder) === line) this.#lines.delete(folder);
    };
    void forget();
    const { promise: aborted, resolve: abort } = Promise.withResolvers<"aborted">();
    const onAbort = () => abort("aborted");
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    const first = await Promise.race([before, aborted]);
    signal?.removeEventListener("abort", onAbort);
    if (first !== "aborted" && signal?.aborted !== true) return leave;
    leave();
    return undefined;
  }
}

/**
 * Copies an image into a result folder (invariant 2). The digest is of what was copied.
 * @returns undefined when there is no regular file. Throws what the file system throws.
 */
export async function keepImage(file: string, resultFolder: string): Promise<KeptImage | undefined> {
  const found = await lstat(file).catch(() => undefined);
  if (found?.isFile() !== true) return undefined;
  const draft = join(resultFolder, `draft-${randomBytes(4).toString("hex")}`);
  const hash = createHash("sha256");
  await pipeline(
    createReadStream(file),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(draft),
  );
  const digest = Digest.parse(hash.digest("hex"));
  const path = join(resultFolder, digest);
  await rename(draft, path);
  return { digest, path, bytes: (await stat(path)).size };
}

/**
 * A folder name for any text: what is plain of it for people, and a part of its hash that tells it from every other text,
 * also on a file system that ignores case or is strict about bytes.
 */
export function escapeName(name: string): string {
  const plain = name
    .replaceAll(/[^A-Za-z0-9._-]+/g, "_")
    .replace(/^[._-]+/, "")
    .slice(0, 60);
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 12);
  return `${plain === "" ? "tree" : plain}.${hash}`;
}

/** @returns what was in the way of deleting it. Tries again for what is only in use by another deletion. */
async function remove(path: string): Promise<unknown> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
    return undefined;
  } catch (error) {
    return error;
  }
}

function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === "ENOENT";
}
