/**
 * The live chains in their bucket.
 *
 * 1. A write carries the sequence of the last one that this writer has seen; it lands only if nobody has written since.
 * 2. Writes that belong together are one atomic batch; others are pipelined, each expecting the one before.
 * 3. After anything but success the writer knows nothing and must load again.
 * 4. Who has loaded writes a fence before relying on it: a write that was under way may land after the load, and who then has
 *    nothing to write would never hear of it.
 */
import { headers as createHeaders, type MsgHdrs, nuid } from "@nats-io/nats-core";
import type { ChainRecords, CommitResult, LoadedChains } from "#actor/coordinator-ports.ts";
import type { Chain } from "#protocol/chain.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { InvariantError, type WireError } from "#protocol/errors.ts";
import { ChainId } from "#protocol/ids.ts";
import { buckets, bucketStream, fenceKey, keySubject } from "#protocol/names.ts";
import { batchMax, publishBatch, storeAnswerOf } from "#bus/atomic-batch.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { lastSequenceOf, readStream } from "#bus/stream-reader.ts";

/** From this many independent records on, a batch (3 ms and little a record) is faster than pipelined publishes (0.26 ms each). */
const batchFrom = 16;
/** A removed chain's marker tells late watchers, and a coordinator that starts, that it has ended; after this it goes too. */
const removedMs = 10 * 60_000;
const publishTimeoutMs = 5_000;

export class ChainStore implements ChainRecords {
  readonly removedMs = removedMs;
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
    const removed: ChainId[] = [];
    const damaged: { key: string; error: WireError }[] = [];
    for await (const message of readStream(this.#connection, this.#stream)) {
      const key = message.subject.slice(keySubject(buckets.chains, "").length);
      // Removal markers have the header and no body.
      if (message.headers?.has("KV-Operation") === true) {
        const id = ChainId.safeParse(key);
        if (id.success) removed.push(id.data);
        continue;
      }
      const decoded = decode(StoredChain, message.data);
      if (decoded.ok) chains.set(key, decoded.value);
      else damaged.push({ key, error: decoded.error });
    }
    return { chains: [...chains.values()], removed, damaged };
  }

  /** Invariant 4. A removal marker under a name that no chain has. @throws UnavailableError */
  async fence(expectedLastSequence: number): Promise<CommitResult> {
    try {
      return await this.#pipeline([[fenceKey, undefined]], expectedLastSequence);
    } catch (error) {
      throw translate(error, "fence the chains");
    }
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

  /**
   * Each write also names the one before by its message id: where somebody else's write has taken the place of the first, the
   * sequence that the second expects is there, and only the name tells that it is not ours.
   */
  async #pipeline(entries: readonly (readonly [string, Chain | undefined])[], last: number): Promise<CommitResult> {
    const pipelineId = nuid.next();
    const acks = await Promise.all(
      entries.map(([id, chain], index) => {
        const headers = headersOf(chain);
        headers.set("Nats-Expected-Last-Sequence", String(last + index));
        if (entries.length > 1) headers.set("Nats-Msg-Id", `${pipelineId}.${index}`);
        if (index > 0) headers.set("Nats-Expected-Last-Msg-Id", `${pipelineId}.${index - 1}`);
        return this.#connection.request(keySubject(buckets.chains, id), bodyOf(chain), {
          timeout: publishTimeoutMs,
          headers,
        });
      }),
    );
    const refused = acks.map((ack) => storeAnswerOf(ack.data)).find((answer) => !answer.ok);
    return refused === undefined ? { ok: true, lastSequence: last + entries.length } : conflict(refused.detail);
  }

  async #batch(entries: readonly (readonly [ChainId, Chain | undefined])[], last: number): Promise<CommitResult> {
    const messages = entries.map(([id, chain], index) => {
      const headers = headersOf(chain);
      if (index === 0) headers.set("Nats-Expected-Last-Sequence", String(last));
      return { subject: keySubject(buckets.chains, id), body: bodyOf(chain), headers };
    });
    const answer = await publishBatch(this.#connection, messages, publishTimeoutMs);
    return answer.ok ? { ok: true, lastSequence: last + entries.length } : conflict(answer.detail);
  }
}

function headersOf(chain: Chain | undefined): MsgHdrs {
  const headers = createHeaders();
  if (chain === undefined) {
    headers.set("KV-Operation", "PURGE");
    headers.set("Nats-Rollup", "sub");
    headers.set("Nats-TTL", `${removedMs / 1000}s`);
  }
  return headers;
}

function bodyOf(chain: Chain | undefined): Uint8Array {
  return chain === undefined ? new Uint8Array() : encode(chain);
}

/** Error 10071 and 10164: somebody has written since. Any other refusal is no less a reason to load again. */
function conflict(detail: string): CommitResult {
  return { ok: false, reason: "conflict", detail };
}
