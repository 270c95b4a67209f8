/**
 * The messages of a bucket of objects, each asked for by itself.
 *
 * 1. Whatever is asked ends with the transfer's end: when its caller calls it off, and when the connection breaks.
 * 2. A piece is stored once: who sends one that is there is told so by the server.
 */
import {
  JetStreamApiError,
  type JetStreamClient,
  jetstream,
  type JetStreamManager,
  jetstreamManager,
} from "@nats-io/jetstream";
import { headers as createHeaders } from "@nats-io/nats-core";
import { UnavailableError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import { type Connection, onDisconnect } from "#bus/connection.ts";
import { metaSubject, type ObjectMeta, readMeta, streamOf } from "#bus/object-layout.ts";

/** Answered in milliseconds; a busy disk needs longer. */
const askMsMax = 5_000;
/** A piece behind seven others on a line of 140 kB/s. */
const pieceMsMax = 30_000;

/** JetStream's refusal of a write that expects no message on its subject. */
const isThereAlready = 10_071;

/** The end of one transfer. */
export class TransferEnd implements Disposable {
  readonly #controller = new AbortController();
  readonly #stop: () => void;

  constructor(connection: Connection, signal: AbortSignal | undefined) {
    const callOff = () => this.#end("called-off", "the transfer was called off");
    const lost = onDisconnect(connection, () => this.#end("connection-lost", "the connection broke in a transfer"));
    signal?.addEventListener("abort", callOff, { once: true });
    if (signal?.aborted === true) callOff();
    this.#stop = () => {
      lost.stop();
      signal?.removeEventListener("abort", callOff);
    };
  }

  /** @throws UnavailableError when the transfer is over */
  check(): void {
    this.#controller.signal.throwIfAborted();
  }

  /** The answer, unless the transfer ends before. */
  async answer<T>(asked: Promise<T>): Promise<T> {
    const { signal } = this.#controller;
    const ended = Promise.withResolvers<never>();
    const onEnd = () => ended.reject(signal.reason);
    signal.addEventListener("abort", onEnd, { once: true });
    if (signal.aborted) onEnd();
    try {
      return await Promise.race([asked, ended.promise]);
    } finally {
      signal.removeEventListener("abort", onEnd);
    }
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #end(code: string, message: string): void {
    this.#controller.abort(new UnavailableError(code, message));
  }
}

export class ObjectMessages {
  readonly bucket: string;
  readonly #connection: Connection;
  readonly #stream: string;
  readonly #manager: JetStreamManager;
  readonly #client: JetStreamClient;
  readonly #end: TransferEnd;

  private constructor(connection: Connection, bucket: string, manager: JetStreamManager, end: TransferEnd) {
    this.#connection = connection;
    this.bucket = bucket;
    this.#stream = streamOf(bucket);
    this.#manager = manager;
    this.#client = jetstream(connection);
    this.#end = end;
  }

  static async open(connection: Connection, bucket: string, end: TransferEnd): Promise<ObjectMessages> {
    const manager = await jetstreamManager(connection, { checkAPI: false, timeout: askMsMax });
    return new ObjectMessages(connection, bucket, manager, end);
  }

  /** @throws UnavailableError when the transfer is over */
  check(): void {
    this.#end.check();
  }

  async meta(digest: Digest): Promise<ObjectMeta | "missing" | "corrupt"> {
    const subject = metaSubject(this.bucket, digest);
    const found = await this.#end.answer(this.#manager.streams.getMessage(this.#stream, { last_by_subj: subject }));
    const meta = found === null ? "deleted" : readMeta(found);
    return meta === "deleted" ? "missing" : meta;
  }

  async writeMeta(digest: Digest, body: Uint8Array): Promise<void> {
    const headers = createHeaders();
    headers.set("Nats-Rollup", "sub");
    const published = this.#client.publish(metaSubject(this.bucket, digest), body, { headers, timeout: askMsMax });
    await this.#end.answer(published);
  }

  /** The subjects in the bucket that match, each with the number of its messages. */
  async subjects(filter: string): Promise<ReadonlyMap<string, number>> {
    const info = await this.#end.answer(this.#manager.streams.info(this.#stream, { subjects_filter: filter }));
    return new Map(Object.entries(info.state.subjects ?? {}));
  }

  /** Invariant 2. Messages leave in the order of the calls. */
  async send(subject: string, body: Uint8Array): Promise<void> {
    const options = { timeout: pieceMsMax, expect: { lastSubjectSequence: 0 } };
    try {
      await this.#end.answer(this.#client.publish(subject, body, options));
    } catch (error) {
      if (!(error instanceof JetStreamApiError && error.code === isThereAlready)) throw error;
    }
  }

  /** The last message of a subject; undefined when there is none. A copy of the stream may not have it yet: its leader has. */
  async fetch(subject: string): Promise<Uint8Array | undefined> {
    const found = await this.#direct(`.${subject}`, "");
    if (found !== undefined) return found.data;
    const asked = this.#manager.streams.getMessage(this.#stream, { last_by_subj: subject });
    return (await this.#end.answer(asked))?.data;
  }

  /** The first message of a subject from a sequence on. */
  async fetchFrom(
    subject: string,
    sequence: number,
  ): Promise<{ readonly data: Uint8Array; readonly sequence: number } | undefined> {
    return this.#direct("", JSON.stringify({ seq: sequence, next_by_subj: subject }));
  }

  async purge(filter: string): Promise<void> {
    await this.#end.answer(this.#manager.streams.purge(this.#stream, { filter }));
  }

  async #direct(of: string, query: string): Promise<{ data: Uint8Array; sequence: number } | undefined> {
    const subject = `$JS.API.DIRECT.GET.${this.#stream}${of}`;
    const found = await this.#end.answer(this.#connection.request(subject, query, { timeout: pieceMsMax }));
    const { code = 0, description = "" } = found.headers ?? {};
    if (code === 404) return undefined;
    if (code !== 0) throw new UnavailableError("nats", `${code} ${description}: fetch a message of ${this.#stream}`);
    return { data: found.data, sequence: Number(found.headers?.get("Nats-Sequence")) };
  }
}
