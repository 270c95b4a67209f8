/**
 * Bundles on the build machine's disk as the store has them, so that a job that finds its bundle here asks nobody for it.
 *
 * 1. Nothing is used before its digest was compared, whether it has just come or lay there already.
 * 2. A bundle is fetched once however many want it, and the fetching is called off when nobody does any more.
 * 3. What somebody wants is not removed; of the rest that goes first which was wanted longest ago.
 * 4. A hint is followed after the one before, and fails silently; of those that come meanwhile only the last one waits.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "#actor/clock.ts";
import { once } from "#actor/service.ts";
import { inStage } from "#actor/stage.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import { stageLimits } from "#protocol/limits.ts";
import type { ObjectStore, Transfer } from "#bus/object-store.ts";
import { abortedStop, failed, fileFailure, type Attempt, type Stop } from "#toolchain/attempt.ts";
import { inflateBundle } from "#toolchain/inflate.ts";

/** More than wait for one machine; a bundle of ESPHome has some kilobytes. */
const bundlesMax = 32;
/** One of the largest that are allowed. */
const bundlesBytesMax = 67_108_864;

/** A bundle as a plain tar of its taker's own, which goes when it is disposed of. */
export interface TakenBundle extends AsyncDisposable {
  readonly tar: string;
}

export interface BundleCacheLimits {
  readonly bundles: number;
  readonly bytes: number;
}

/** One check or fetching of a bundle, and those who wait for it. */
interface Bringing {
  readonly end: Promise<Stop | undefined>;
  readonly callOff: AbortController;
  readonly waiting: Set<Transfer>;
}

export class BundleCache {
  readonly #folder: string;
  /** Where the tars of takers are. */
  readonly #taken: string;
  readonly #store: Pick<ObjectStore, "getFile">;
  readonly #clock: Clock;
  readonly #limits: BundleCacheLimits;
  readonly #bringings = new Map<Digest, Bringing>();
  /** By how many a bundle is wanted. */
  readonly #wanted = new Map<Digest, number>();
  /** The hint that waits. */
  #hint: Digest | undefined;
  #prefetching: Promise<void> | undefined;

  constructor(
    folder: string,
    store: Pick<ObjectStore, "getFile">,
    clock: Clock = systemClock,
    limits: BundleCacheLimits = { bundles: bundlesMax, bytes: bundlesBytesMax },
  ) {
    this.#folder = folder;
    this.#taken = join(folder, "taken");
    this.#store = store;
    this.#clock = clock;
    this.#limits = limits;
  }

  /**
   * The bundle of a digest, from the disk or from the store. Failures: `bundle-refused` for one that is not there, is another one or
   * cannot be unpacked, `disk-full`. @throws UnavailableError when the store cannot be reached
   */
  async take(digest: Digest, transfer: Transfer = {}): Promise<Attempt<{ readonly bundle: TakenBundle }>> {
    using _want = this.#want(digest);
    const stop = await this.#brought(digest, transfer);
    if (stop !== undefined) return stop;
    const tar = join(this.#taken, `${digest}.${randomBytes(4).toString("hex")}`);
    const inflated = await inflateBundle(this.#place(digest), tar, { onPiece: transfer.onChunk });
    const drop = () => rm(tar, { force: true }).catch(() => undefined);
    if (inflated.ok && transfer.signal?.aborted !== true) {
      return { ok: true, bundle: { tar, [Symbol.asyncDispose]: drop } };
    }
    await drop();
    return inflated.ok ? abortedStop : inflated;
  }

  /** Fetches what is likely to be taken next. Resolves, and never rejects, when no hint waits any more. */
  prefetch(digest: Digest): Promise<void> {
    this.#hint = digest;
    this.#prefetching ??= this.#followHints();
    return this.#prefetching;
  }

  /** Takes every bundle away that nobody wants. */
  async clear(): Promise<void> {
    await this.#makeRoom({ bundles: 0, bytes: 0 });
  }

  /** Invariant 4. */
  async #followHints(): Promise<void> {
    for (let digest = this.#hint; digest !== undefined; digest = this.#hint) {
      const hinted = digest;
      this.#hint = undefined;
      using _want = this.#want(hinted);
      const stage = { stage: "fetching", limits: stageLimits, clock: this.#clock } as const;
      await inStage({ ...stage, signal: new AbortController().signal }, async ({ signal, moved }) => {
        await this.#brought(hinted, { signal, onChunk: moved });
        return {};
      }).catch(() => undefined);
    }
    this.#prefetching = undefined;
  }

  #place(digest: Digest): string {
    return join(this.#folder, digest);
  }

  #want(digest: Digest): Disposable {
    this.#wanted.set(digest, (this.#wanted.get(digest) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#wanted.get(digest) ?? 0) - 1;
        if (left > 0) this.#wanted.set(digest, left);
        else this.#wanted.delete(digest);
      },
    };
  }

  /** Invariant 2. @returns why there is no bundle */
  async #brought(digest: Digest, transfer: Transfer): Promise<Stop | undefined> {
    const bringing = this.#bringings.get(digest) ?? this.#begin(digest);
    bringing.waiting.add(transfer);
    const { promise: given, resolve: giveUp } = Promise.withResolvers<Stop>();
    const onAbort = () => giveUp(abortedStop);
    transfer.signal?.addEventListener("abort", onAbort, { once: true });
    if (transfer.signal?.aborted === true) onAbort();
    try {
      return await Promise.race([bringing.end, given]);
    } finally {
      transfer.signal?.removeEventListener("abort", onAbort);
      bringing.waiting.delete(transfer);
      if (bringing.waiting.size === 0) this.#end(digest, bringing);
    }
  }

  #begin(digest: Digest): Bringing {
    const callOff = new AbortController();
    const waiting = new Set<Transfer>();
    const onChunk = () => {
      for (const transfer of waiting) transfer.onChunk?.();
    };
    const end = this.#bring(digest, { signal: callOff.signal, onChunk });
    // Whoever waits hears it; perhaps nobody does any more.
    end.catch(() => undefined);
    const bringing = { end, callOff, waiting };
    this.#bringings.set(digest, bringing);
    return bringing;
  }

  #end(digest: Digest, bringing: Bringing): void {
    bringing.callOff.abort();
    if (this.#bringings.get(digest) === bringing) this.#bringings.delete(digest);
  }

  /** Invariant 1. What is damaged is replaced. */
  async #bring(digest: Digest, transfer: Transfer): Promise<Stop | undefined> {
    const path = this.#place(digest);
    try {
      await this.#sweep();
      await mkdir(this.#taken, { recursive: true, mode: 0o700 });
      if ((await contentDigest(path)) !== digest) {
        const got = await this.#store.getFile(digest, path, transfer);
        if (!got.ok) {
          const reason =
            got.found === "missing" ? `${digest} is not in the store` : `its digest is ${got.found}, not ${digest}`;
          return failed({ kind: "bundle-refused", reason });
        }
        await this.#makeRoom(this.#limits);
      }
      const now = this.#clock.now() / 1000;
      await utimes(path, now, now);
      return undefined;
    } catch (error) {
      return diskFull(error, this.#folder);
    }
  }

  /** What killed takers have left. */
  readonly #sweep = once(() => rm(this.#taken, { recursive: true, force: true }).catch(() => undefined));

  /** Invariant 3. What cannot be removed now is removed another time. */
  async #makeRoom({ bundles, bytes }: BundleCacheLimits): Promise<void> {
    const entries = await readdir(this.#folder, { withFileTypes: true }).catch(() => []);
    const files = await Promise.all(
      entries
        .filter((entry) => entry.isFile())
        .map(async ({ name }) => {
          const path = join(this.#folder, name);
          const found = await stat(path).catch(() => undefined);
          return { path, digest: name.slice(0, digestLength), bytes: found?.size ?? 0, wantedAt: found?.mtimeMs ?? 0 };
        }),
    );
    const wanted: ReadonlySet<string> = new Set(this.#wanted.keys());
    let [count, total] = [files.length, files.reduce((sum, file) => sum + file.bytes, 0)];
    for (const file of files.toSorted((a, b) => a.wantedAt - b.wantedAt)) {
      if (count <= bundles && total <= bytes) return;
      if (wanted.has(file.digest)) continue;
      await rm(file.path, { force: true }).catch(() => undefined);
      count -= 1;
      total -= file.bytes;
    }
  }
}

/** The draft of a fetching that broke off begins with its digest as well. */
const digestLength = 64;

/** @returns undefined for what is not there, or cannot be read. */
async function contentDigest(path: string): Promise<string | undefined> {
  const hash = createHash("sha256");
  try {
    for await (const piece of createReadStream(path) as AsyncIterable<Buffer>) hash.update(piece);
    return hash.digest("hex");
  } catch {
    return undefined;
  }
}

/** The store's word for a disk without room is that it cannot write now; another machine may have room. */
function diskFull(error: unknown, folder: string): Stop {
  const cause = error instanceof UnavailableError && error.code === "disk" ? error.cause : error;
  const failure = fileFailure(cause, folder);
  if (failure.kind === "disk-full" || !(error instanceof UnavailableError)) return failed(failure);
  throw error;
}
