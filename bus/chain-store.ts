/**
 * The live chains in their bucket.
 *
 * 1. A write carries the sequence of the last one that this writer has seen; it lands only if nobody has written since.
 * 2. Writes that belong together are one atomic batch; others are pipelined, each expecting the one before.
 * 3. After anything but success the writer knows nothing and must load again.
 */
import { headers as createHeaders, type MsgHdrs, nuid } from "@nats-io/nats-core";
import { z } from "zod";
import { Chain } from "#protocol/chain.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { InvariantError, type WireError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { buckets, bucketStream, keySubject } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { lastSequenceOf, readStream } from "#bus/stream-reader.ts";

/** From this many independent records on, a batch (about 10 ms for 500) is faster than pipelined publishes (0.2 ms each). */
const batchFrom = 24;
/** JetStream refuses larger batches (error 10199). */
const batchMax = 1_000;
/** A removed chain's marker tells late watchers; after this it goes too. */
const markerTtl = "10m";
const publishTimeoutMs = 5_000;

const PubAck = z.object({
  seq: z.number().optional(),
  error: z.object({ err_code: z.number().optional(), description: z.string().optional() }).optional(),
});

export interface LoadedChains {
  readonly chains: readonly Chain[];
  readonly lastSequence: number;
  /** Records that cannot be decoded; they stay where they are, for a person to look at. */
  readonly damaged: readonly { readonly key: string; readonly error: WireError }[];
}

export type CommitResult =
  | { readonly ok: true; readonly lastSequence: number }
  | { readonly ok: false; readonly reason: "conflict"; readonly detail: string };

export class ChainStore {
  readonly #connection: Connection;
  readonly #stream = bucketStream(buckets.chains);

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Reads every live chain and the sequence to fence with. @throws UnavailableError */
  async load(): Promise<LoadedChains> {
    try {
      for (;;) {
        const before = await lastSequenceOf(this.#connection, this.#stream);
        const loaded = await this.#readAll();
        const after = await lastSequenceOf(this.#connection, this.#stream);
        // Another coordinator that is still writing is seen here, or fails its next write against ours.
        if (before.last === after.last) return { ...loaded, lastSequence: after.last };
      }
    } catch (error) {
      throw translate(error, "load the chains");
    }
  }

  async #readAll(): Promise<Omit<LoadedChains, "lastSequence">> {
    const chains = new Map<string, Chain>();
    const damaged: { key: string; error: WireError }[] = [];
    for await (const message of readStream(this.#connection, this.#stream)) {
      // Removal markers have the header and no body.
      if (message.headers?.has("KV-Operation") === true) continue;
      const key = message.subject.slice(keySubject(buckets.chains, "").length);
      const decoded = decode(Chain, message.data);
      if (decoded.ok) chains.set(key, decoded.value);
      else damaged.push({ key, error: decoded.error });
    }
    return { chains: [...chains.values()], damaged };
  }

  /**
   * Writes changed records (undefined removes one), fenced by `expectedLastSequence`.
   * @throws UnavailableError when the answer did not come: the writes may or may not have landed.
   */
  async commit(
    changes: ReadonlyMap<ChainId, Chain | undefined>,
    expectedLastSequence: number,
    isAtomic: boolean,
  ): Promise<CommitResult> {
    const entries = [...changes];
    let last = expectedLastSequence;
    try {
      if (entries.length === 1 || (!isAtomic && entries.length < batchFrom)) return await this.#pipeline(entries, last);
      if (isAtomic && entries.length > batchMax) {
        throw new InvariantError("batch-too-large", `${entries.length} records cannot be one atomic batch`);
      }
      for (let at = 0; at < entries.length; at += batchMax) {
        const result = await this.#batch(entries.slice(at, at + batchMax), last);
        if (!result.ok) return result;
        last = result.lastSequence;
      }
      return { ok: true, lastSequence: last };
    } catch (error) {
      throw translate(error, "commit chains");
    }
  }

  async #pipeline(entries: readonly (readonly [ChainId, Chain | undefined])[], last: number): Promise<CommitResult> {
    const acks = await Promise.all(
      entries.map(([id, chain], index) => {
        const headers = headersOf(chain);
        headers.set("Nats-Expected-Last-Sequence", String(last + index));
        return this.#connection.request(keySubject(buckets.chains, id), bodyOf(chain), {
          timeout: publishTimeoutMs,
          headers,
        });
      }),
    );
    return (
      acks.map((ack) => resultOf(ack.data)).find((result) => !result.ok) ?? {
        ok: true,
        lastSequence: last + entries.length,
      }
    );
  }

  async #batch(entries: readonly (readonly [ChainId, Chain | undefined])[], last: number): Promise<CommitResult> {
    const batchId = nuid.next();
    let commitAck: Uint8Array | undefined;
    for (const [index, [id, chain]] of entries.entries()) {
      const headers = headersOf(chain);
      headers.set("Nats-Batch-Id", batchId);
      headers.set("Nats-Batch-Sequence", String(index + 1));
      if (index === 0) headers.set("Nats-Expected-Last-Sequence", String(last));
      const subject = keySubject(buckets.chains, id);
      if (index < entries.length - 1) {
        this.#connection.publish(subject, bodyOf(chain), { headers });
      } else {
        headers.set("Nats-Batch-Commit", "1");
        const ack = await this.#connection.request(subject, bodyOf(chain), { timeout: publishTimeoutMs, headers });
        commitAck = ack.data;
      }
    }
    if (commitAck === undefined) return { ok: true, lastSequence: last };
    const result = resultOf(commitAck);
    return result.ok ? { ok: true, lastSequence: last + entries.length } : result;
  }
}

function headersOf(chain: Chain | undefined): MsgHdrs {
  const headers = createHeaders();
  if (chain === undefined) {
    headers.set("KV-Operation", "PURGE");
    headers.set("Nats-Rollup", "sub");
    headers.set("Nats-TTL", markerTtl);
  }
  return headers;
}

function bodyOf(chain: Chain | undefined): Uint8Array {
  return chain === undefined ? new Uint8Array() : encode(chain);
}

/** Error 10071 and 10164: somebody has written since. Any other refusal is no less a reason to load again. */
function resultOf(bytes: Uint8Array): CommitResult {
  const ack = decode(PubAck, bytes);
  if (!ack.ok) throw ack.error;
  const { error, seq } = ack.value;
  if (error === undefined && seq !== undefined) return { ok: true, lastSequence: seq };
  return {
    ok: false,
    reason: "conflict",
    detail: `${error?.err_code ?? "?"}: ${error?.description ?? "no sequence in the answer"}`,
  };
}
