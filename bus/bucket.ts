/** A typed key-value bucket for what needs no fence: the history, the devices. */
import { jetstreamManager } from "@nats-io/jetstream";
import type { z } from "zod";
import { decode, encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { bucketStream, keySubject } from "#protocol/names.ts";
import { batchMax, publishBatch } from "#bus/atomic-batch.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { lastSequenceOf, readStream } from "#bus/stream-reader.ts";

/** A thousand values take 50 ms. */
const putTimeoutMs = 5_000;

export class Bucket<S extends z.ZodType> {
  readonly #connection: Connection;
  readonly #name: string;
  readonly #schema: S;

  constructor(connection: Connection, name: string, schema: S) {
    this.#connection = connection;
    this.#name = name;
    this.#schema = schema;
  }

  /** Puts many values; each of them is there or not, and asking again does no harm. @throws UnavailableError */
  async putAll(values: ReadonlyMap<string, z.input<S>>): Promise<void> {
    const messages = [...values].map(([key, value]) => ({ subject: keySubject(this.#name, key), body: encode(value) }));
    try {
      for (let at = 0; at < messages.length; at += batchMax) {
        const answer = await publishBatch(this.#connection, messages.slice(at, at + batchMax), putTimeoutMs);
        if (!answer.ok) throw new UnavailableError("not-stored", `put into ${this.#name}: ${answer.detail}`);
      }
    } catch (error) {
      throw translate(error, `put ${messages.length} values into ${this.#name}`);
    }
  }

  /** Takes values away without a trace; one that is not there is no error. @throws UnavailableError */
  async removeAll(keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    try {
      const manager = await jetstreamManager(this.#connection, { checkAPI: false });
      const stream = bucketStream(this.#name);
      for (const key of keys) await manager.streams.purge(stream, { filter: keySubject(this.#name, key) });
    } catch (error) {
      throw translate(error, `remove ${keys.length} values from ${this.#name}`);
    }
  }

  /**
   * The value, or undefined when there is none or it cannot be decoded. From the stream's leader: a chain has left the live records when
   * it is looked for here, and a copy of the history may not have it yet. @throws UnavailableError
   */
  async get(key: string): Promise<z.output<S> | undefined> {
    try {
      const manager = await jetstreamManager(this.#connection, { checkAPI: false });
      const subject = { last_by_subj: keySubject(this.#name, key) };
      const message = await manager.streams.getMessage(bucketStream(this.#name), subject);
      if (message === null || message.header.has("KV-Operation")) return undefined;
      const decoded = decode(this.#schema, message.data);
      return decoded.ok ? decoded.value : undefined;
    } catch (error) {
      throw translate(error, `get ${key} from ${this.#name}`);
    }
  }

  /** Every value that the bucket holds, newest first. @throws UnavailableError */
  async all(): Promise<readonly z.output<S>[]> {
    return this.newest(Number.POSITIVE_INFINITY);
  }

  /** Every value of the newest `limit` writes, newest first; what cannot be decoded is passed over. @throws UnavailableError */
  async newest(limit: number): Promise<readonly z.output<S>[]> {
    if (limit === 0) return [];
    try {
      const stream = bucketStream(this.#name);
      const { last } = await lastSequenceOf(this.#connection, stream);
      const found = new Map<string, z.output<S>>();
      for await (const message of readStream(this.#connection, stream, { fromSequence: last - limit + 1 })) {
        const decoded = decode(this.#schema, message.data);
        if (message.headers?.has("KV-Operation") !== true && decoded.ok) found.set(message.subject, decoded.value);
      }
      return [...found.values()].toReversed();
    } catch (error) {
      throw translate(error, `read ${this.#name}`);
    }
  }
}
