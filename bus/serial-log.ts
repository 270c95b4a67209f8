/** What devices say on the ports of an upload agent: wishes as requests, answered in parts for as long as the wishes are repeated. */
import { randomBytes } from "node:crypto";
import { createInbox } from "@nats-io/nats-core";
import type { Clock } from "#actor/clock.ts";
import type { Listening } from "#actor/coordinator-ports.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import { serialSubject } from "#protocol/names.ts";
import { type PortId, SerialLogPart, SerialLogWish, serialLeaseMs, serialWishEveryMs } from "#protocol/serial.ts";
import type { Connection } from "#bus/connection.ts";
import { serve } from "#bus/rpc.ts";

/** An agent's side: each wish with the way back to whoever has it. What cannot be decoded is passed over. */
export function onSerialLogWish(
  connection: Connection,
  agent: AgentId,
  handle: (wish: SerialLogWish, answer: (part: SerialLogPart) => void) => void,
): Listening {
  return serve(connection, serialSubject(agent), (call) => {
    const decoded = decode(SerialLogWish, call.bytes);
    if (!decoded.ok) return;
    handle(decoded.value, (part) => (connection.isClosed() ? undefined : call.answer(part)));
  });
}

export interface SerialLogReading {
  readonly agent: AgentId;
  readonly port: PortId;
  readonly baud: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** `away`: the agent has gone; it may come back. */
export type SerialLogNews = SerialLogPart | { readonly kind: "away" };

/**
 * Reads until the agent ends it (the last part is `ended`), or the signal fires.
 * @throws UnavailableError `no-agent` when nobody of that name listens, at first or for as long as a lease
 */
export async function* readSerialLogOf(
  connection: Connection,
  { agent, port, baud, clock, signal }: SerialLogReading,
): AsyncGenerator<SerialLogNews> {
  const inbox = createInbox();
  const wish: SerialLogWish = { v: 1, port, baud, reader: randomBytes(8).toString("hex") };
  const say = (message: SerialLogWish) => {
    if (!connection.isClosed()) connection.publish(serialSubject(agent), encode(message), { reply: inbox });
  };
  const subscription = connection.subscribe(inbox);
  const over = new AbortController();
  const leave = () => subscription.unsubscribe();
  signal.addEventListener("abort", leave, { once: true });
  if (signal.aborted) leave();
  const repeating = repeat(clock, over.signal, () => say(wish));
  let awaySince: number | undefined = Number.NEGATIVE_INFINITY;
  try {
    for await (const { headers, data } of subscription) {
      // The server's word that nobody listens there, a status without a body.
      if (headers?.code === 503) {
        if (awaySince === undefined) yield { kind: "away" };
        awaySince ??= clock.monotonic();
        if (clock.monotonic() - awaySince > serialLeaseMs) throw away(agent);
        continue;
      }
      const decoded = decode(SerialLogPart, data);
      if (!decoded.ok) continue;
      awaySince = undefined;
      yield decoded.value;
      if (decoded.value.kind === "ended") return;
    }
  } finally {
    signal.removeEventListener("abort", leave);
    over.abort();
    await repeating;
    leave();
    say({ ...wish, isOver: true });
  }
}

async function repeat(clock: Clock, signal: AbortSignal, say: () => void): Promise<void> {
  do say();
  while (await clock.pause(serialWishEveryMs, signal));
}

function away(agent: AgentId): UnavailableError {
  const message = `no upload agent called ${agent} answers, or it is of an older version; \`flashyard agents\` lists them`;
  return new UnavailableError("no-agent", message);
}
