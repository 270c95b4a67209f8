/** Ports of this machine on 127.0.0.1. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";

/**
 * A port that is free now; nobody else may take it before its user does, or that user fails and says so.
 * @throws UnavailableError when there is none
 */
export async function freePort(): Promise<number> {
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
