/** Messages that a stream stores all or none, with one answer for all (NATS ADR-50). */
import { headers as createHeaders, type MsgHdrs, nuid } from "@nats-io/nats-core";
import { z } from "zod";
import { decode } from "#protocol/envelope.ts";
import type { Connection } from "#bus/connection.ts";

/** JetStream refuses larger batches (error 10199). */
export const batchMax = 1_000;

export interface BatchMessage {
  readonly subject: string;
  readonly body: Uint8Array;
  /** Taken over and added to. */
  readonly headers?: MsgHdrs;
}

const PubAck = z.object({
  seq: z.number().optional(),
  error: z.object({ err_code: z.number().optional(), description: z.string().optional() }).optional(),
});

export type StoreAnswer =
  | { readonly ok: true; readonly sequence: number }
  | { readonly ok: false; readonly detail: string };

/** What a stream says to a publish or to the last message of a batch. @throws WireError */
export function storeAnswerOf(bytes: Uint8Array): StoreAnswer {
  const ack = decode(PubAck, bytes);
  if (!ack.ok) throw ack.error;
  const { error, seq } = ack.value;
  if (error === undefined && seq !== undefined) return { ok: true, sequence: seq };
  return { ok: false, detail: `${error?.err_code ?? "?"}: ${error?.description ?? "no sequence in the answer"}` };
}

/**
 * Publishes 1 to `batchMax` messages to one stream as one batch. Costs 3 ms and 0.04 ms a message on a machine where a lone
 * synced publish takes 0.4 ms (nats-server 2.15.1, November 2026). @throws what the client throws when no answer came.
 */
export async function publishBatch(
  connection: Connection,
  messages: readonly BatchMessage[],
  timeoutMs: number,
): Promise<StoreAnswer> {
  const batchId = nuid.next();
  const prepared = messages.map(({ subject, body, headers = createHeaders() }, index) => {
    headers.set("Nats-Batch-Id", batchId);
    headers.set("Nats-Batch-Sequence", String(index + 1));
    return { subject, body, headers };
  });
  const last = prepared.pop();
  if (last === undefined) return { ok: false, detail: "an empty batch" };
  for (const { subject, body, headers } of prepared) connection.publish(subject, body, { headers });
  last.headers.set("Nats-Batch-Commit", "1");
  const ack = await connection.request(last.subject, last.body, { timeout: timeoutMs, headers: last.headers });
  return storeAnswerOf(ack.data);
}
