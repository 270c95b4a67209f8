/** Ports of this machine on 127.0.0.1. */
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";

/**
 * Below what systems give to outgoing connections (Linux from 32768, macOS from 49152): one of those may be held by the other end of some
 * connection, for a minute after its end, just when a device that has restarted wants to listen again.
 */
const [lowest, highest] = [16_384, 32_767];
const portTriesMax = 100;

/**
 * A port that is free now; nobody else may take it before its user does, or that user fails and says so.
 * @throws UnavailableError when there is none
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < portTriesMax; tries += 1) {
    const port = await listenBriefly(randomInt(lowest, highest + 1)).catch(() => undefined);
    if (port !== undefined) return port;
  }
  return listenBriefly(0).catch((cause: unknown) => {
    throw new UnavailableError("no-port", `no port on 127.0.0.1 is free: ${messageOf(cause)}`, { cause });
  });
}

/** @param purpose as it stands in the sentence, e.g. `nats-server`. @throws UsageError `port-taken`, `port-refused` */
export async function requireFreePort(port: number, purpose: string): Promise<void> {
  await listenBriefly(port).catch((cause: NodeJS.ErrnoException) => {
    const isTaken = cause.code === "EADDRINUSE";
    throw new UsageError(
      isTaken ? "port-taken" : "port-refused",
      isTaken
        ? `port ${port} on 127.0.0.1 is taken by another program, and ${purpose} needs it: end that program or choose another port`
        : `port ${port} on 127.0.0.1 cannot be used for ${purpose}: ${cause.message}`,
      { cause, facts: { port } },
    );
  });
}

async function listenBriefly(wanted: number): Promise<number> {
  const server = createServer();
  server.listen(wanted, "127.0.0.1");
  // Rejects with the error event when the port cannot be had.
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return address !== null && typeof address === "object" ? address.port : wanted;
}

/** Whether anybody listens there. */
export async function takesConnections(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    return await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}
