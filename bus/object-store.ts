/**
 * Bundles and artifacts by the SHA-256 of their content: compressed, sent once, and checked when read. Memory does not grow with an
 * object, and a transfer that broke off goes on where it was, also in another process.
 */
import { type Clock, systemClock } from "#actor/clock.ts";
import { Digest } from "#protocol/ids.ts";
import type { Connection } from "#bus/connection.ts";
import { inOrder } from "#bus/in-order.ts";
import { type Content, contentOf, type Draft, FileDraft, MemoryDraft, openContent } from "#bus/object-content.ts";
import {
  chunkSubject,
  metaSubject,
  metaSubjects,
  nameIn,
  pieceSubjects,
  readMeta,
  streamOf,
} from "#bus/object-layout.ts";
import {
  DirectMessages,
  inTransfer,
  type ObjectMessages,
  type SecretOf,
  type TransferEnd,
} from "#bus/object-messages.ts";
import { loadObject, type Refusal } from "#bus/object-reader.ts";
import { isWhole, storeObject } from "#bus/object-writer.ts";
import { readStream } from "#bus/stream-reader.ts";

/** Objects that are removed at a time. */
const removalsMax = 8;

/** What a caller hears of a transfer and how it ends one; a transfer waits for its bytes without any limit of its own. */
export interface Transfer {
  readonly signal?: AbortSignal;
  /** Called with each chunk that has come or goes, also with one that an earlier transfer has brought. */
  readonly onChunk?: () => void;
}

export interface StoredObject {
  readonly digest: Digest;
  readonly bytes: number;
  readonly storedBytes: number;
  /** When it was stored, ms since 1970 by the server's clock. */
  readonly at: number;
}

/** How somebody reaches the messages of a bucket. */
export type ObjectAccess = (connection: Connection, bucket: string, end: TransferEnd) => Promise<ObjectMessages>;

/** Of those whom the server lets read and write all of it. @param secretOf absent in an open farm */
export function directAccess(secretOf?: SecretOf): ObjectAccess {
  return (connection, bucket, end) => DirectMessages.open(connection, bucket, end, secretOf);
}

export class ObjectStore {
  readonly #connection: Connection;
  readonly #bucket: string;
  readonly #clock: Clock;
  readonly #access: ObjectAccess;

  constructor(
    connection: Connection,
    bucket: string,
    clock: Clock = systemClock,
    access: ObjectAccess = directAccess(),
  ) {
    this.#connection = connection;
    this.#bucket = bucket;
    this.#clock = clock;
    this.#access = access;
  }

  /** Stores bytes under their digest; does nothing when they are there already. @throws as `putFile` */
  async put(digest: Digest, bytes: Uint8Array, transfer: Transfer = {}): Promise<void> {
    await this.#store(digest, contentOf(bytes), transfer);
  }

  /**
   * Stores the content of a file under its digest; does nothing when it is there already.
   * @throws UnavailableError, also when called off; UsageError when the file cannot be read, is larger than `objectBytesMax`, or
   * has another digest because it was changed
   */
  async putFile(digest: Digest, path: string, transfer: Transfer = {}): Promise<void> {
    await using content = await openContent(path);
    await this.#store(digest, content, transfer);
  }

  async #store(digest: Digest, content: Content, { signal, onChunk }: Transfer): Promise<void> {
    const storing = { digest, content, clock: this.#clock, onPiece: onChunk };
    await this.#exchange(`store ${digest}`, signal, (messages) => storeObject(messages, storing));
  }

  /** The bytes of a digest, or what is wrong with them. @throws UnavailableError, also when called off */
  async get(digest: Digest, transfer: Transfer = {}): Promise<{ ok: true; bytes: Uint8Array } | Refusal> {
    const draft = new MemoryDraft();
    const loaded = await this.#load(digest, draft, transfer);
    return loaded.ok ? { ok: true, bytes: draft.content } : loaded;
  }

  /**
   * Writes the content of a digest to `path`, or says what is wrong with it. What is at `path` is whole at any time; the draft beside
   * it (`.part`) is what the next call goes on with.
   * @throws UnavailableError for the server and for the disk, also when called off
   */
  async getFile(digest: Digest, path: string, transfer: Transfer = {}): Promise<{ ok: true; bytes: number } | Refusal> {
    await using draft = await FileDraft.open(path, digest);
    const loaded = await this.#load(digest, draft, transfer);
    if (loaded.ok) await draft.finish(loaded.bytes);
    else await draft.discard();
    return loaded;
  }

  #load(digest: Digest, draft: Draft, { signal, onChunk }: Transfer): Promise<{ ok: true; bytes: number } | Refusal> {
    const loading = { draft, clock: this.#clock, onPiece: onChunk };
    return this.#exchange(`fetch ${digest}`, signal, (messages) => loadObject(messages, digest, loading));
  }

  /** Whether an object is there with all of its pieces. @throws UnavailableError */
  has(digest: Digest): Promise<boolean> {
    return this.#exchange(`look for ${digest}`, undefined, async (messages) => {
      const meta = await messages.meta(digest);
      return typeof meta === "object" && meta.contentDigest === digest && (await isWhole(messages, meta));
    });
  }

  /** @throws UnavailableError */
  list(): Promise<readonly StoredObject[]> {
    return this.#exchange(`list ${this.#bucket}`, undefined, async () => {
      // A meta message that is replaced meanwhile comes twice.
      const found = new Map<Digest, StoredObject>();
      const subjects = [metaSubjects(this.#bucket)];
      for await (const message of readStream(this.#connection, streamOf(this.#bucket), { subjects })) {
        const name = Digest.safeParse(nameIn(message.subject));
        const meta = readMeta(message);
        if (typeof meta !== "object" || !name.success) continue;
        const { bytes, storedBytes, at } = meta;
        found.set(name.data, { digest: name.data, bytes, storedBytes, at });
      }
      return [...found.values()];
    });
  }

  /** Removes objects; one that is not there is no error. @throws UnavailableError */
  remove(digests: readonly Digest[]): Promise<void> {
    return this.#exchange(`remove from ${this.#bucket}`, undefined, async (messages) => {
      for await (const _ of inOrder(
        digests,
        () => removalsMax,
        (digest) => removeObject(messages, digest),
      ));
    });
  }

  #exchange<T>(
    doing: string,
    signal: AbortSignal | undefined,
    work: (messages: ObjectMessages) => Promise<T>,
  ): Promise<T> {
    const open = (end: TransferEnd) => this.#access(this.#connection, this.#bucket, end);
    return inTransfer(this.#connection, { doing, signal }, open, work);
  }
}

/** The pieces go first: who stores the object at the same time sees them gone behind its meta message (`object-writer.ts`). */
async function removeObject(messages: ObjectMessages, digest: Digest): Promise<void> {
  const { bucket } = messages;
  const meta = await messages.meta(digest);
  if (typeof meta === "object" && meta.pieces === undefined) await messages.purge(chunkSubject(bucket, meta.nuid));
  for (const pieces of pieceSubjects(bucket, digest)) await messages.purge(pieces);
  await messages.purge(metaSubject(bucket, digest));
}
