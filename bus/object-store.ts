/** Bundles and artifacts by digest: put once, and checked when read. */
import { Objm } from "@nats-io/obj";
import { digestOf } from "#actor/digest.ts";
import type { Digest } from "#protocol/ids.ts";
import { objectName } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";

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

  /** Stores bytes under their digest; does nothing when they are there already. @throws UnavailableError */
  async put(digest: Digest, bytes: Uint8Array): Promise<void> {
    try {
      const store = await new Objm(this.#connection).open(this.#bucket);
      const found = await store.info(objectName(digest));
      if (found !== null && !found.deleted && found.digest.replace(/=+$/, "") === storedDigest(digest)) return;
      await store.putBlob({ name: objectName(digest), options: { max_chunk_size: 512 * 1024 } }, bytes);
    } catch (error) {
      throw translate(error, `store ${digest}`);
    }
  }

  /**
   * The bytes of a digest, or what is wrong with them: `missing`, the digest that they have instead, or `corrupt` when they
   * are not what was stored.
   * @throws UnavailableError
   */
  async get(
    digest: Digest,
  ): Promise<{ ok: true; bytes: Uint8Array } | { ok: false; found: Digest | "missing" | "corrupt" }> {
    let bytes: Uint8Array | null;
    try {
      const store = await new Objm(this.#connection).open(this.#bucket);
      bytes = await store.getBlob(objectName(digest));
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
