/** Whether the server at the other end of a connection can carry a farm. Asked once, before anything is stored. */
import { JetStreamApiError, jetstreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import { isServerVersionAccepted, serverVersionMin, serverVersionPinned } from "#bus/server-version.ts";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";

/** @param found as the server calls itself. @throws UsageError `nats-server-too-old` when it is older than the farm needs. */
export function requireVersion(found: string): void {
  if (isServerVersionAccepted(found)) return;
  throw new UsageError(
    "nats-server-too-old",
    `the NATS server is ${found === "" ? "of an unknown version" : found}, and flashyard needs ${serverVersionMin} or newer: ` +
      `older ones store the parts of one change singly. Upgrade it (${serverVersionPinned} is what flashyard is tested with), ` +
      "or let flashyard run its own server.",
    { facts: { found, needed: serverVersionMin } },
  );
}

/**
 * @param stream the configuration in the server's answer to a create, update or info of a stream that was asked to allow atomic
 * batches. A server that does not know the flag drops it, and only its answer shows that.
 * @throws UsageError `nats-server-not-atomic`
 */
export function requireAtomic(stream: { readonly name: string; readonly allow_atomic?: boolean }): void {
  if (stream.allow_atomic === true) return;
  throw new UsageError(
    "nats-server-not-atomic",
    `the NATS server does not allow atomic batches on the stream ${stream.name}: flashyard needs nats-server ${serverVersionMin} or ` +
      "newer on every node, and streams that it made itself. Upgrade the server, or let flashyard run its own.",
    { facts: { stream: stream.name, needed: serverVersionMin } },
  );
}

/**
 * Checks the version and that JetStream is there for the account of this connection.
 * @throws UsageError `nats-server-too-old`, `jetstream-disabled`
 * @throws UnavailableError `nats-not-connected`, `jetstream-away`: a cluster without a leader at the moment; ask again later
 */
export async function checkServer(connection: NatsConnection): Promise<void> {
  const info = connection.info;
  if (info === undefined)
    throw new UnavailableError("nats-not-connected", "the connection to the NATS server is not up");
  requireVersion(info.version);
  try {
    const manager = await jetstreamManager(connection, { checkAPI: false });
    await manager.getAccountInfo();
  } catch (error) {
    // Without a leader nobody answers either, and the client gives both the same name: only a server that has JetStream
    // off for the account answers with an error of its own, or does not announce it in its greeting.
    const isOff = isNotEnabled(error) && (error.cause instanceof JetStreamApiError || info.jetstream !== true);
    if (!isOff)
      throw new UnavailableError("jetstream-away", `JetStream did not answer: ${messageOf(error)}`, { cause: error });
    throw new UsageError(
      "jetstream-disabled",
      `the NATS server ${connection.getServer()} has no JetStream for this account: start it with -js or a jetstream block in ` +
        "its configuration, enable it for the account, or let flashyard run its own server.",
      { cause: error, facts: { server: connection.getServer() } },
    );
  }
}

/** The client's own class for it is not exported; its name is. */
export function isNotEnabled(error: unknown): error is Error {
  return error instanceof Error && error.name === "JetStreamNotEnabled";
}
