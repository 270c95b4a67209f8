/**
 * Reads what a stream holds, from a sequence or for some subjects, to its present end or on and on.
 *
 * The present end is what the stream's leader says. In a cluster the reading goes by whichever copy the server has chosen, and one that
 * lags says that it has no more while what was just written is still on its way to it.
 */
import { DeliverPolicy, jetstream, jetstreamManager, type JsMsg } from "@nats-io/jetstream";
import type { Connection } from "#bus/connection.ts";

/** Answered in milliseconds; while a cluster elects a leader nobody answers, and whoever reads asks again. */
const askTimeoutMs = 2_000;

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

/** Whether the leader has messages behind a sequence that the reading is about. */
async function hasMore(
  connection: Connection,
  stream: string,
  after: number,
  subjects: readonly string[] = [">"],
): Promise<boolean> {
  const { streams } = await jetstreamManager(connection, { checkAPI: false, timeout: askTimeoutMs });
  for (const subject of subjects) {
    const next = { seq: after + 1, next_by_subj: subject };
    if ((await streams.getMessage(stream, next)) !== null) return true;
  }
  return false;
}

/** Messages in stored order, by an ordered consumer that repairs gaps by itself. */
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
    const isEnd = (after: number) =>
      follow === undefined && hasMore(connection, stream, after, subjects).then((more) => !more);
    if (pending === 0 && (await isEnd(Math.max(1, fromSequence ?? 1) - 1))) return;
    const messages = await consumer.consume({ max_messages: 1_000 });
    const stop = () => messages.stop();
    follow?.addEventListener("abort", stop, { once: true });
    if (follow?.aborted === true) stop();
    try {
      for await (const message of messages) {
        yield message;
        if (message.info.pending === 0 && (await isEnd(message.seq))) return;
      }
    } finally {
      follow?.removeEventListener("abort", stop);
      messages.stop();
    }
  } finally {
    // The server keeps it for five minutes otherwise, and refuses a stream's thousand and first. Nobody waits for it to go.
    consumer.delete().catch(() => undefined);
  }
}
