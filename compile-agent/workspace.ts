/**
 * The build machine's folder: a tree per (ESPHome version, configuration) that stays warm, and a folder per result.
 *
 * 1. One build at a time works in a tree.
 * 2. Images are copied out of the tree before it is free again, so the next build cannot change what is being sent.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { lstat, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { Configuration, Digest } from "#protocol/ids.ts";

export interface Tree {
  /** Notes on the tree. */
  readonly folder: string;
  /** Where the bundle is unpacked and the build runs. */
  readonly source: string;
}

/** A copy of an image; the file's name is its digest. */
export interface KeptImage {
  readonly digest: Digest;
  readonly path: string;
  readonly bytes: number;
}

const TreeNote = z.object({ v: z.literal(1), version: z.string(), configuration: Configuration });

export interface WarmTree {
  readonly version: string;
  readonly configuration: Configuration;
}

export class Workspace {
  readonly #trees: string;
  readonly #results: string;
  /** The end of the line of those who want a tree, by its folder. */
  readonly #lines = new Map<string, Promise<void>>();

  constructor(home: string) {
    this.#trees = join(home, "trees");
    this.#results = join(home, "results");
  }

  /**
   * Works in the tree of a configuration, alone (invariant 1).
   * @returns what `work` returned, or undefined when the signal fired while it waited for its turn.
   */
  async withTree<T>(
    { version, configuration }: WarmTree,
    signal: AbortSignal | undefined,
    work: (tree: Tree) => Promise<T>,
  ): Promise<T | undefined> {
    const folder = join(this.#trees, escapeName(version), escapeName(configuration));
    const leave = await this.#queueFor(folder, signal);
    if (leave === undefined) return undefined;
    try {
      const source = join(folder, "source");
      await mkdir(source, { recursive: true });
      await writeFile(join(folder, "tree.json"), JSON.stringify({ v: 1, version, configuration }));
      return await work({ folder, source });
    } finally {
      leave();
    }
  }

  /** Every tree that exists. */
  async warmTrees(): Promise<readonly WarmTree[]> {
    const found: WarmTree[] = [];
    for (const version of await readdir(this.#trees).catch(() => [])) {
      for (const name of await readdir(join(this.#trees, version)).catch(() => [])) {
        const note = await readNote(join(this.#trees, version, name));
        if (note !== undefined) found.push({ version: note.version, configuration: note.configuration });
      }
    }
    return found;
  }

  /** Removes all trees of a configuration, each when the build in it has ended. @returns how many there were. */
  async removeTrees(configuration: Configuration): Promise<number> {
    const trees = (await this.warmTrees()).filter((tree) => tree.configuration === configuration);
    for (const tree of trees) {
      await this.withTree(tree, undefined, ({ folder }) => rm(folder, { recursive: true, force: true }));
    }
    return trees.length;
  }

  /** An empty folder for the images of one result; whoever has sent them removes it. */
  async resultFolder(): Promise<string> {
    const folder = join(this.#results, randomBytes(8).toString("hex"));
    await mkdir(folder, { recursive: true });
    return folder;
  }

  /** Result folders that a killed predecessor left, for the agent to resume or to remove. */
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

async function readNote(folder: string) {
  try {
    return TreeNote.parse(JSON.parse(await readFile(join(folder, "tree.json"), "utf8")));
  } catch {
    return undefined;
  }
}
