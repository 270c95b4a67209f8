/** One connection to NATS, and the translation of its errors. */
import {
  ClosedConnectionError,
  DrainingConnectionError,
  type NatsConnection,
  NoRespondersError,
  RequestError,
  TimeoutError,
} from "@nats-io/nats-core";
import { connect as connectNode } from "@nats-io/transport-node";
import { isFarmError, messageOf, UnavailableError } from "#protocol/errors.ts";

export type Connection = NatsConnection;

/** How long the first connection may take; a server that is there answers in milliseconds. */
const connectMsMax = 5_000;

/**
 * Connects and stays connected: after the first success the client reconnects for ever.
 * @throws UnavailableError when no server answers at the address.
 */
export async function connect(url: string, name: string): Promise<Connection> {
  try {
    return await connectNode({
      servers: url,
      name,
      timeout: connectMsMax,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
      reconnectJitter: 50,
      pingInterval: 5_000,
      // A stack kept for every request in case that it fails: a fifth of a busy coordinator's time.
      noAsyncTraces: true,
    });
  } catch (cause) {
    throw new UnavailableError("no-server", `no NATS server answers at ${url}: ${messageOf(cause)}`, { cause });
  }
}

/** What the client threw, as one of ours. Everything the network can do is `UnavailableError`. */
export function translate(cause: unknown, doing: string): Error {
  if (isFarmError(cause)) return cause;
  if (cause instanceof NoRespondersError || (cause instanceof RequestError && cause.isNoResponders())) {
    return new UnavailableError("no-responders", `nobody answers: ${doing}`, { cause });
  }
  if (cause instanceof TimeoutError) return new UnavailableError("timeout", `no answer in time: ${doing}`, { cause });
  if (cause instanceof ClosedConnectionError || cause instanceof DrainingConnectionError) {
    return new UnavailableError("closed", `the connection is closed: ${doing}`, { cause });
  }
  return new UnavailableError("nats", `${doing}: ${messageOf(cause)}`, { cause });
}

/** Calls back after each reconnection until the connection is closed. */
export function onReconnect(connection: Connection, call: () => void): void {
  onStatus(connection, "reconnect", call);
}

/** Calls back whenever the server is gone, until the connection is closed. */
export function onDisconnect(connection: Connection, call: () => void): void {
  onStatus(connection, "disconnect", call);
}

function onStatus(connection: Connection, type: "disconnect" | "reconnect", call: () => void): void {
  void (async () => {
    for await (const status of connection.status()) if (status.type === type) call();
  })();
}
