/**
 * Reads what a stream holds, from a sequence or for some subjects, to its present end or on and on.
 *
 * The present end is what the stream's leader says. In a cluster the reading goes by whichever copy the server has chosen, and one that
 * lags says that it has no more while what was just written is still on its way to it.
 */
import { type ConsumerMessages, DeliverPolicy, jetstream, jetstreamManager, type JsMsg } from "@nats-io/jetstream";
import { UnavailableError } from "#protocol/errors.ts";
import { type Connection, onDisconnect } from "#bus/connection.ts";

/** Answered in milliseconds; while a cluster elects a leader nobody answers, and whoever reads asks again. */
const askTimeoutMs = 2_000;

/** Two that do not come: the server that was read from is gone, or what it sent is. */
const heartbeatMs = 1_000;

export interface ReadOptions {
  readonly fromSequence?: number;
  readonly subjects?: readonly string[];
  /** Go on with what arrives later, until the signal fires. */
  readonly follow?: AbortSignal;
}

export async function lastSequenceOf(
  connection: Connection,
  stream: string,
): Promise<{ last: number; messages: number }> {
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: askTimeoutMs });
  const { state } = await manager.streams.info(stream);
  return { last: state.last_seq, messages: state.messages };
}

/** The sequence of the leader's next message behind one, of those that the reading is about; undefined at the end. */
async function nextAfter(
  connection: Connection,
  stream: string,
  after: number,
  subjects: readonly string[] = [">"],
): Promise<number | undefined> {
  const { streams } = await jetstreamManager(connection, { checkAPI: false, timeout: askTimeoutMs });
  for (const subject of subjects) {
    const next = { seq: after + 1, next_by_subj: subject };
    const found = await streams.getMessage(stream, next);
    if (found !== null) return found.seq;
  }
  return undefined;
}

/** Ends a pull of which two heartbeats did not come. */
export async function stopWhenSilent(messages: ConsumerMessages): Promise<void> {
  for await (const { type } of messages.status()) if (type === "heartbeats_missed") messages.stop();
}

/** Messages in stored order, by an ordered consumer that repairs gaps by itself. @throws UnavailableError where reading to the present end breaks off */
export async function* readStream(
  connection: Connection,
  stream: string,
  options: ReadOptions = {},
): AsyncGenerator<JsMsg> {
  const { fromSequence, subjects, follow } = options;
  const consumer = await jetstream(connection).consumers.get(stream, {
    ...(subjects === undefined ? {} : { filter_subjects: [...subjects] }),
    ...(fromSequence === undefined
      ? { deliver_policy: DeliverPolicy.All }
      : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: Math.max(1, fromSequence) }),
  });
  try {
    const { num_pending: pending } = await consumer.info();
    /** There is a message at least up to here. */
    let target: number | undefined = Number.POSITIVE_INFINITY;
    const isEnd = async (after: number) => {
      target = await nextAfter(connection, stream, after, subjects);
      return target === undefined;
    };
    if (follow === undefined && pending === 0 && (await isEnd(Math.max(1, fromSequence ?? 1) - 1))) return;
    const messages = await consumer.consume({
      max_messages: 1_000,
      ...(follow === undefined ? { idle_heartbeat: heartbeatMs } : {}),
    });
    const stop = () => messages.stop();
    follow?.addEventListener("abort", stop, { once: true });
    // What was under way to a connection that broke is not sent again before something newer is: it may be the last.
    const lost = follow === undefined ? onDisconnect(connection, stop) : undefined;
    if (follow === undefined) void stopWhenSilent(messages);
    if (follow?.aborted === true) stop();
    try {
      for await (const message of messages) {
        yield message;
        // The server counts one too many pending where a message has just taken another one's place.
        const mayBeLast = message.info.pending === 0 || message.seq >= target;
        if (follow === undefined && mayBeLast && (await isEnd(message.seq))) return;
      }
      if (follow === undefined) throw new UnavailableError("reading-broke", `${stream} was not read to its end`);
    } finally {
      lost?.stop();
      follow?.removeEventListener("abort", stop);
      messages.stop();
    }
  } finally {
    // The server keeps it for five minutes otherwise, and refuses a stream's thousand and first. Nobody waits for it to go.
    consumer.delete().catch(() => undefined);
  }
}
