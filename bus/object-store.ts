/** Bundles and artifacts by digest: put once, and checked when read. */
import { Objm, type ObjectResult } from "@nats-io/obj";
import { digestOf } from "#actor/digest.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import { objectName } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";

/** Bytes of one message of an object: fewer round trips than by the client's own 128 KiB, and far below the server's limit. */
const chunkBytes = 512 * 1024;

/** What a caller hears of a transfer and how it ends one; a transfer waits for its bytes without any limit of its own. */
export interface Transfer {
  readonly signal?: AbortSignal;
  /** Called with each chunk that has come or goes. */
  readonly onChunk?: () => void;
}

/** As the object store writes it (NATS ADR-20), without the padding. */
function storedDigest(digest: Digest): string {
  return `SHA-256=${Buffer.from(digest, "hex").toString("base64url")}`;
}

export class ObjectStore {
  readonly #connection: Connection;
  readonly #bucket: string;

  constructor(connection: Connection, bucket: string) {
    this.#connection = connection;
    this.#bucket = bucket;
  }

  /** Stores bytes under their digest; does nothing when they are there already. @throws UnavailableError, also when called off */
  async put(digest: Digest, bytes: Uint8Array, transfer: Transfer = {}): Promise<void> {
    try {
      const store = await new Objm(this.#connection).open(this.#bucket);
      const found = await store.info(objectName(digest));
      if (found !== null && !found.deleted && found.digest.replace(/=+$/, "") === storedDigest(digest)) return;
      const meta = { name: objectName(digest), options: { max_chunk_size: chunkBytes } };
      await store.put(meta, chunksOf(bytes, transfer));
    } catch (error) {
      throw translate(error, `store ${digest}`);
    }
  }

  /**
   * The bytes of a digest, or what is wrong with them: `missing`, the digest that they have instead, or `corrupt` when they
   * are not what was stored.
   * @throws UnavailableError, also when called off
   */
  async get(
    digest: Digest,
    transfer: Transfer = {},
  ): Promise<{ ok: true; bytes: Uint8Array } | { ok: false; found: Digest | "missing" | "corrupt" }> {
    let bytes: Uint8Array | null;
    try {
      const store = await new Objm(this.#connection).open(this.#bucket);
      const object = await store.get(objectName(digest));
      bytes = object === null ? null : await gather(object, transfer);
    } catch (error) {
      // The client's own check has failed, which has no class of its own.
      if (error instanceof Error && /digest|corrupt/i.test(error.message)) return { ok: false, found: "corrupt" };
      throw translate(error, `fetch ${digest}`);
    }
    if (bytes === null) return { ok: false, found: "missing" };
    const found = digestOf(bytes);
    return found === digest ? { ok: true, bytes } : { ok: false, found };
  }
}

function calledOff(): UnavailableError {
  return new UnavailableError("called-off", "the transfer was called off");
}

function chunksOf(bytes: Uint8Array, { signal, onChunk }: Transfer): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream(
    {
      pull(controller) {
        if (signal?.aborted === true) return controller.error(calledOff());
        if (at >= bytes.length) return controller.close();
        controller.enqueue(bytes.subarray(at, at + chunkBytes));
        at += chunkBytes;
        onChunk?.();
      },
    },
    // Nothing ahead: a chunk is asked for when the one before it has been stored.
    { highWaterMark: 0 },
  );
}

async function gather({ data, error }: ObjectResult, { signal, onChunk }: Transfer): Promise<Uint8Array> {
  // What ends the transfer ends the reading below as well.
  error.catch(() => undefined);
  const reader = data.getReader();
  const onAbort = () => void reader.cancel().catch(() => undefined);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    const chunks: Uint8Array[] = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (signal?.aborted === true) throw calledOff();
      if (done) return Buffer.concat(chunks);
      chunks.push(value);
      onChunk?.();
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
