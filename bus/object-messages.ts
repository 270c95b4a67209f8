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
import { type Connection, onDisconnect, translate } from "#bus/connection.ts";
import { type ContentKey, contentKey } from "#bus/object-seal.ts";
import { type MetaMessage, metaSubject, type ObjectMeta, readFoundMeta, streamOf } from "#bus/object-layout.ts";

/** Answered in milliseconds; a busy disk needs longer. */
export const askMsMax = 5_000;
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

/** Does something with a bucket's messages that ends with its signal or its connection. @throws UnavailableError, and what `work` throws */
export async function inTransfer<M extends ObjectMessages, T>(
  connection: Connection,
  { doing, signal }: { readonly doing: string; readonly signal?: AbortSignal | undefined },
  open: (end: TransferEnd) => Promise<M>,
  work: (messages: M) => Promise<T>,
): Promise<T> {
  using end = new TransferEnd(connection, signal);
  try {
    end.check();
    return await work(await open(end));
  } catch (error) {
    throw translate(error, doing);
  }
}

export interface ObjectMessages {
  readonly bucket: string;
  /** The token in the subjects of what is stored by this way that says whose it is. */
  readonly owner: string;
  /** @throws UnavailableError when the transfer is over */
  check(): void;
  meta(digest: Digest): Promise<ObjectMeta | "missing" | "corrupt">;
  /** By which the pieces of a content are sealed; undefined in an open farm. */
  key(digest: Digest): Promise<ContentKey | undefined>;
  writeMeta(digest: Digest, body: Uint8Array): Promise<void>;
  /** The subjects in the bucket that match, each with the number of its messages. */
  subjects(filter: string): Promise<ReadonlyMap<string, number>>;
  /** Invariant 2. Messages leave in the order of the calls. */
  send(subject: string, body: Uint8Array): Promise<void>;
  /** The last message of a subject; undefined when there is none. */
  fetch(subject: string): Promise<Uint8Array | undefined>;
  /** The first message of a subject from a sequence on. */
  fetchFrom(subject: string, sequence: number): Promise<FoundMessage | undefined>;
  purge(filter: string): Promise<void>;
}

export interface FoundMessage {
  readonly data: Uint8Array;
  readonly sequence: number;
}

/** What is written by those who belong to the farm's own account. No agent has this name. */
const farmOwner = "_";

/** Finds the secret of a content's key, 32 bytes. */
export type SecretOf = (digest: Digest) => Promise<Uint8Array>;

/** The messages as somebody reaches them whom the server lets do all of it. */
export class DirectMessages implements ObjectMessages {
  readonly bucket: string;
  readonly owner = farmOwner;
  readonly #connection: Connection;
  readonly #stream: string;
  readonly #manager: JetStreamManager;
  readonly #client: JetStreamClient;
  readonly #end: TransferEnd;
  readonly #secretOf: SecretOf | undefined;

  private constructor(
    connection: Connection,
    bucket: string,
    manager: JetStreamManager,
    end: TransferEnd,
    secretOf: SecretOf | undefined,
  ) {
    this.#secretOf = secretOf;
    this.#connection = connection;
    this.bucket = bucket;
    this.#stream = streamOf(bucket);
    this.#manager = manager;
    this.#client = jetstream(connection);
    this.#end = end;
  }

  /** @param secretOf absent in an open farm */
  static async open(
    connection: Connection,
    bucket: string,
    end: TransferEnd,
    secretOf?: SecretOf,
  ): Promise<DirectMessages> {
    const manager = await jetstreamManager(connection, { checkAPI: false, timeout: askMsMax });
    return new DirectMessages(connection, bucket, manager, end, secretOf);
  }

  check(): void {
    this.#end.check();
  }

  async meta(digest: Digest): Promise<ObjectMeta | "missing" | "corrupt"> {
    return readFoundMeta(await this.metaMessage(digest));
  }

  async key(digest: Digest): Promise<ContentKey | undefined> {
    if (this.#secretOf === undefined) return undefined;
    return contentKey(await this.#end.answer(this.#secretOf(digest)));
  }

  async metaMessage(digest: Digest): Promise<MetaMessage | undefined> {
    const query = { last_by_subj: metaSubject(this.bucket, digest) };
    return (await this.#end.answer(this.#manager.streams.getMessage(this.#stream, query))) ?? undefined;
  }

  async writeMeta(digest: Digest, body: Uint8Array): Promise<void> {
    const headers = createHeaders();
    headers.set("Nats-Rollup", "sub");
    const published = this.#client.publish(metaSubject(this.bucket, digest), body, { headers, timeout: askMsMax });
    await this.#end.answer(published);
  }

  async subjects(filter: string): Promise<ReadonlyMap<string, number>> {
    const info = await this.#end.answer(this.#manager.streams.info(this.#stream, { subjects_filter: filter }));
    return new Map(Object.entries(info.state.subjects ?? {}));
  }

  send(subject: string, body: Uint8Array): Promise<void> {
    return sendOnce(this.#client, subject, body, this.#end);
  }

  /** A copy of the stream may not have it yet: its leader has. */
  async fetch(subject: string): Promise<Uint8Array | undefined> {
    const found = await this.#direct(`.${subject}`, "");
    if (found !== undefined) return found.data;
    const asked = this.#manager.streams.getMessage(this.#stream, { last_by_subj: subject });
    return (await this.#end.answer(asked))?.data;
  }

  async fetchFrom(subject: string, sequence: number): Promise<FoundMessage | undefined> {
    return this.#direct("", JSON.stringify({ seq: sequence, next_by_subj: subject }));
  }

  async purge(filter: string): Promise<void> {
    await this.#end.answer(this.#manager.streams.purge(this.#stream, { filter }));
  }

  #direct(of: string, query: string): Promise<FoundMessage | undefined> {
    return getDirectly(this.#connection, `$JS.API.DIRECT.GET.${this.#stream}${of}`, query, this.#end);
  }
}

/** A message from whichever copy of its stream answers; undefined when that has none. @throws UnavailableError */
export async function getDirectly(
  connection: Connection,
  subject: string,
  query: string,
  end: TransferEnd,
): Promise<FoundMessage | undefined> {
  const found = await end.answer(connection.request(subject, query, { timeout: pieceMsMax }));
  const { code = 0, description = "" } = found.headers ?? {};
  if (code === 404) return undefined;
  if (code !== 0) throw new UnavailableError("nats", `${code} ${description}: ${subject}`);
  return { data: found.data, sequence: Number(found.headers?.get("Nats-Sequence")) };
}

/** Stores a piece, unless one is there. @throws UnavailableError */
export async function sendOnce(
  client: JetStreamClient,
  subject: string,
  body: Uint8Array,
  end: TransferEnd,
): Promise<void> {
  const options = { timeout: pieceMsMax, expect: { lastSubjectSequence: 0 } };
  try {
    await end.answer(client.publish(subject, body, options));
  } catch (error) {
    if (!(error instanceof JetStreamApiError && error.code === isThereAlready)) throw error;
  }
}
