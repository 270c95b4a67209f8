/**
 * Images that an uploader has fetched before their flash, in memory, so that a slot that falls free flashes at once.
 *
 * 1. Jobs go first: while one waits for its image nothing is fetched ahead, and what was begun is called off, unless it is that image.
 * 2. What is held or on its way is in the newest hint, and together not larger than the limit.
 * 3. An image goes to the first job that asks for it, and is forgotten here. The store has compared its digest.
 * 4. A hint fails silently: the job will ask the store.
 */
import type { Clock } from "#actor/clock.ts";
import { inStage } from "#actor/stage.ts";
import type { Digest } from "#protocol/ids.ts";
import { stageLimits } from "#protocol/limits.ts";
import type { ImageAhead } from "#protocol/messages.ts";
import type { ObjectStore, Transfer } from "#bus/object-store.ts";

/** Images of ESP32s have one to two megabytes. */
const aheadBytesMax = 134_217_728;
/** A Raspberry Pi with 512 MB keeps 64 MB of images, less than the agent itself. */
const memoryShare = 8;

/** How much a machine keeps (bytes). */
export function aheadBytesOf(memoryBytes: number): number {
  return Math.min(aheadBytesMax, Math.floor(memoryBytes / memoryShare));
}

type Got = Awaited<ReturnType<ObjectStore["get"]>>;

/** An image on its way, and the jobs that wait for it. */
interface Fetching {
  readonly digest: Digest;
  readonly callOff: AbortController;
  readonly waiting: Set<Transfer>;
  readonly end: Promise<Got | undefined>;
}

export class ImagesAhead implements Pick<ObjectStore, "get"> {
  readonly #store: Pick<ObjectStore, "get">;
  readonly #clock: Clock;
  readonly #bytesMax: number;
  /** Of the newest hint, what no job has asked for yet and what has not failed; the next one first. */
  #hinted: readonly Digest[] = [];
  readonly #held = new Map<Digest, Uint8Array>();
  #fetching: Fetching | undefined;
  /** Jobs that wait for an image. */
  #jobs = 0;

  constructor(store: Pick<ObjectStore, "get">, clock: Clock, bytesMax: number) {
    this.#store = store;
    this.#clock = clock;
    this.#bytesMax = bytesMax;
  }

  /** Fetches these images ahead, in this order, and no others any more. */
  hint(images: readonly ImageAhead[]): void {
    this.#hinted = within(images, this.#bytesMax);
    const isHinted = (digest: Digest) => this.#hinted.includes(digest);
    for (const digest of this.#held.keys()) if (!isHinted(digest)) this.#held.delete(digest);
    if (this.#fetching !== undefined && !isHinted(this.#fetching.digest)) this.#callOff(this.#fetching);
    this.#goOn();
  }

  /** The image of a job, from here or from the store. Failures and throws as `ObjectStore.get`. */
  async get(digest: Digest, transfer: Transfer = {}): Promise<Got> {
    const bytes = this.#held.get(digest);
    this.#forget(digest);
    if (bytes !== undefined) {
      this.#goOn();
      return { ok: true, bytes };
    }
    this.#jobs += 1;
    try {
      const joined = await this.#join(digest, transfer);
      return joined ?? (await this.#store.get(digest, transfer));
    } finally {
      this.#jobs -= 1;
      this.#goOn();
    }
  }

  /** Invariant 1. @returns undefined when nobody brings this image, or its fetching has failed */
  async #join(digest: Digest, transfer: Transfer): Promise<Got | undefined> {
    const fetching = this.#fetching;
    if (fetching === undefined) return undefined;
    if (fetching.digest !== digest) return this.#callOff(fetching);
    fetching.waiting.add(transfer);
    const { promise: given, resolve: giveUp } = Promise.withResolvers<undefined>();
    const onAbort = () => giveUp(undefined);
    transfer.signal?.addEventListener("abort", onAbort, { once: true });
    if (transfer.signal?.aborted === true) onAbort();
    try {
      return await Promise.race([fetching.end, given]);
    } finally {
      transfer.signal?.removeEventListener("abort", onAbort);
      fetching.waiting.delete(transfer);
      this.#callOff(fetching);
    }
  }

  /** Unless a job waits for it. */
  #callOff({ waiting, callOff }: Fetching): undefined {
    if (waiting.size === 0) callOff.abort();
  }

  #forget(digest: Digest): void {
    this.#held.delete(digest);
    this.#hinted = this.#hinted.filter((one) => one !== digest);
  }

  /** Begins with the next image, unless something is on its way. */
  #goOn(): void {
    if (this.#jobs > 0 || this.#fetching !== undefined) return;
    const digest = this.#hinted.find((one) => !this.#held.has(one));
    if (digest === undefined) return;
    const callOff = new AbortController();
    const waiting = new Set<Transfer>();
    const end = this.#fetch(digest, callOff.signal, waiting);
    this.#fetching = { digest, callOff, waiting, end };
    void this.#keep(this.#fetching);
  }

  async #keep({ digest, callOff, end }: Fetching): Promise<void> {
    const got = await end;
    this.#fetching = undefined;
    if (got?.ok === true && this.#hinted.includes(digest)) this.#held.set(digest, got.bytes);
    else if (!callOff.signal.aborted) this.#forget(digest);
    this.#goOn();
  }

  /** Invariant 4. @returns undefined when nothing came of it */
  async #fetch(digest: Digest, signal: AbortSignal, waiting: ReadonlySet<Transfer>): Promise<Got | undefined> {
    const stage = { stage: "fetching", limits: stageLimits, clock: this.#clock, signal } as const;
    const ended = await inStage(stage, (watch) => {
      const onChunk = () => {
        watch.moved();
        for (const transfer of waiting) transfer.onChunk?.();
      };
      return this.#store.get(digest, { signal: watch.signal, onChunk });
    }).catch(() => undefined);
    return ended?.kind === "done" ? ended.value : undefined;
  }
}

/** Invariant 2. */
function within(images: readonly ImageAhead[], bytesMax: number): readonly Digest[] {
  let left = bytesMax;
  const kept = new Set<Digest>();
  for (const { digest, bytes } of images) {
    if (kept.has(digest)) continue;
    left -= bytes;
    if (left < 0) break;
    kept.add(digest);
  }
  return [...kept];
}
