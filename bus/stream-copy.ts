/** What a stream holds as bytes, to be put aside and put back; for backups only. */
import { JetStreamApiError, jetstreamManager } from "@nats-io/jetstream";
import { headers as createHeaders } from "@nats-io/nats-core";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { storeAnswerOf } from "#bus/atomic-batch.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { inOrder } from "#bus/in-order.ts";
import { lastSequenceOf, readStream } from "#bus/stream-reader.ts";

/** One behind 64 others, each of up to half a megabyte, on a slow disk. */
const storeTimeoutMs = 30_000;
/** Messages on their way: the disk and the network are busy together, and 32 MiB of pieces at most are in memory. */
const storedMax = 64;

export interface StoredMessage {
  readonly subject: string;
  readonly body: Uint8Array;
  /** A key's removal. */
  readonly isRemoval: boolean;
}

/** The sequence of a stream's newest write; undefined when there is no such stream. @throws UnavailableError */
export async function newestOf(connection: Connection, stream: string): Promise<number | undefined> {
  try {
    return (await lastSequenceOf(connection, stream)).last;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.status === 404) return undefined;
    throw translate(error, `look at ${stream}`);
  }
}

/** To its present end, oldest first. A key that is written meanwhile may come twice: the later one counts. @throws UnavailableError */
export async function* storedMessages(connection: Connection, stream: string): AsyncGenerator<StoredMessage> {
  try {
    for await (const { subject, data, headers } of readStream(connection, stream)) {
      yield { subject, body: data, isRemoval: headers?.has("KV-Operation") === true };
    }
  } catch (error) {
    throw translate(error, `read ${stream}`);
  }
}

/** Whether there is anything but marks of removals. @throws UnavailableError */
export async function isEmptyStream(connection: Connection, stream: string): Promise<boolean> {
  for await (const { isRemoval } of storedMessages(connection, stream)) if (!isRemoval) return false;
  return true;
}

/**
 * Stores messages in their order, each on the disk before this resolves.
 * @returns how many. @throws UsageError `not-stored` when the stream refuses one; UnavailableError
 */
export async function storeMessages(
  connection: Connection,
  messages: AsyncIterable<Pick<StoredMessage, "subject" | "body">>,
): Promise<number> {
  let stored = 0;
  const store = async ({ subject, body }: Pick<StoredMessage, "subject" | "body">) => {
    const ack = await connection.request(subject, body, { timeout: storeTimeoutMs, headers: createHeaders() });
    const answer = storeAnswerOf(ack.data);
    if (!answer.ok) throw new UsageError("not-stored", `the server takes no more of ${subject}: ${answer.detail}`);
  };
  try {
    for await (const _ of inOrder(messages, () => storedMax, store)) stored += 1;
    return stored;
  } catch (error) {
    throw translate(error, `store ${stored + 1} messages`);
  }
}

/** Takes away what a restore has begun. Best effort. */
export async function dropStreams(connection: Connection, streams: readonly string[]): Promise<void> {
  const manager = await jetstreamManager(connection, { checkAPI: false });
  for (const stream of streams) {
    await manager.streams.delete(stream).catch((error: unknown) => {
      throw new UnavailableError("not-dropped", `${stream} could not be taken away`, { cause: error });
    });
  }
}
