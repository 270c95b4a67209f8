/** Reads what a stream holds, from a sequence or for some subjects, to its present end or on and on. */
import { DeliverPolicy, jetstream, jetstreamManager, type JsMsg } from "@nats-io/jetstream";
import type { Connection } from "#bus/connection.ts";

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
  const manager = await jetstreamManager(connection, { checkAPI: false });
  const { state } = await manager.streams.info(stream);
  return { last: state.last_seq, messages: state.messages };
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
    if (pending === 0 && follow === undefined) return;
    const messages = await consumer.consume({ max_messages: 1_000 });
    const stop = () => messages.stop();
    follow?.addEventListener("abort", stop, { once: true });
    if (follow?.aborted === true) stop();
    try {
      for await (const message of messages) {
        yield message;
        if (follow === undefined && message.info.pending === 0) return;
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
