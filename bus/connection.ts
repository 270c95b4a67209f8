/** One connection to NATS, and the translation of its errors. */
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import {
  AuthorizationError,
  ClosedConnectionError,
  DrainingConnectionError,
  jwtAuthenticator,
  type NatsConnection,
  NoRespondersError,
  RequestError,
  TimeoutError,
} from "@nats-io/nats-core";
import { connect as connectNode } from "@nats-io/transport-node";
import type { Listening } from "#actor/coordinator-ports.ts";
import { untilFired } from "#actor/until-fired.ts";
import { isFarmError, messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import { hasTls, hostOf, requirePrivate, serversIn, shownServers } from "#bus/server-addresses.ts";

export type Connection = NatsConnection;

/** How long a connection to one server may take, the first as any later one; a server that is there answers in milliseconds. */
const connectMsMax = 5_000;

/** How somebody shows the server who they are. */
export interface SignIn {
  /** A user's token, or what gives the newest one at each reconnection; with its seed, absent for a bearer's, the server's nonce is signed. */
  readonly token?: string | (() => string);
  readonly seed?: Uint8Array;
  /** Where answers arrive. */
  readonly inbox: string;
  /** As whom requests of people are made; absent for an agent. */
  readonly name?: string;
  /** The certificate, in PEM, by which servers with TLS are known; absent: those that the machine trusts. */
  readonly authority?: string;
}

function identified({ token, seed, inbox }: SignIn) {
  return { inboxPrefix: inbox, ...(token === undefined ? {} : { authenticator: jwtAuthenticator(token, seed) }) };
}

function encrypted(servers: readonly string[], authority: string | undefined) {
  if (!servers.some(hasTls)) return {};
  return { tls: authority === undefined ? {} : { ca: authority, checkServerIdentity: checkOneOf(servers) } };
}

/**
 * The client passes on a server's name, but of an address nothing, and then Node looks for `localhost` in the certificate: instead one of
 * the addresses that were named has to be there.
 */
function checkOneOf(servers: readonly string[]): typeof checkServerIdentity {
  const addresses = servers.map(hostOf).filter((host) => isIP(host) !== 0);
  return (host, certificate) => {
    const hosts = host === "localhost" ? [host, ...addresses] : [host];
    const errors = hosts.map((one) => checkServerIdentity(one, certificate));
    return errors.includes(undefined) ? undefined : errors.at(-1);
  };
}

const signIns = new WeakMap<Connection, SignIn>();

/** As what a connection has been made; undefined in an open farm. */
export function signInBy(connection: Connection): SignIn | undefined {
  return signIns.get(connection);
}

/**
 * Connects to one of the servers and stays connected: after the first success the client reconnects for ever, to whichever answers,
 * also to those of their cluster that it was not told of.
 * @param urls of one server, or of several with commas: each is tried, in an order by chance
 * @throws UnavailableError when none answers; UsageError when none is named, or one beyond this machine is named without TLS
 */
export async function connect(urls: string, name: string, signIn?: SignIn): Promise<Connection> {
  const servers = [...serversIn(urls)];
  requirePrivate(servers);
  try {
    const connection = await connectNode({
      servers,
      name,
      ...(signIn === undefined ? {} : identified(signIn)),
      ...encrypted(servers, signIn?.authority),
      timeout: connectMsMax,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
      reconnectJitter: 50,
      pingInterval: 5_000,
      // A stack kept for every request in case that it fails: a fifth of a busy coordinator's time.
      noAsyncTraces: true,
    });
    if (signIn !== undefined) signIns.set(connection, signIn);
    return connection;
  } catch (cause) {
    if (cause instanceof AuthorizationError) throw notLetIn(cause, servers);
    const where = servers.length === 1 ? "" : "any of ";
    const message = `no NATS server answers at ${where}${shownServers(urls)}: ${messageOf(cause)}`;
    throw new UnavailableError("no-server", message, { cause });
  }
}

function notLetIn(cause: Error, servers: readonly string[]): UsageError {
  const message =
    `the NATS server at ${shownServers(servers.join(","))} does not let this process in (${cause.message}): its credentials are ` +
    "missing, have ended, were revoked, or are of another farm; see FLASHYARD_CREDENTIALS and docs/pairing.md";
  return new UsageError("not-let-in", message, { cause });
}

/** Resolves with the signal, or when the server has ended the connection for good: with why. */
export async function untilShutOut(connection: Connection, signal: AbortSignal): Promise<UsageError | undefined> {
  const closed = connection.closed().then((error) => error ?? undefined);
  const reason = await Promise.race([closed, untilFired(signal)]);
  return reason instanceof Error ? notLetIn(reason, [connection.getServer()]) : undefined;
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

/** Calls back after each reconnection, until it is stopped or the connection is closed. */
export function onReconnect(connection: Connection, call: () => void): Listening {
  return onStatus(connection, "reconnect", call);
}

/** Calls back whenever the server is gone, until it is stopped or the connection is closed. */
export function onDisconnect(connection: Connection, call: () => void): Listening {
  return onStatus(connection, "disconnect", call);
}

interface Listener {
  readonly type: "disconnect" | "reconnect";
  readonly call: () => void;
}

const listenersOf = new WeakMap<Connection, Set<Listener>>();

function onStatus(connection: Connection, type: Listener["type"], call: () => void): Listening {
  const listeners = listenersOf.get(connection) ?? listenTo(connection);
  const listener = { type, call };
  listeners.add(listener);
  return { stop: () => void listeners.delete(listener) };
}

/** The client's own listeners cannot be taken back, so there is one of them a connection. */
function listenTo(connection: Connection): Set<Listener> {
  const listeners = new Set<Listener>();
  listenersOf.set(connection, listeners);
  void (async () => {
    for await (const { type } of connection.status()) {
      for (const listener of listeners) if (listener.type === type) listener.call();
    }
  })();
  return listeners;
}
