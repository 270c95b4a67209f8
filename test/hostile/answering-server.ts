/** A server that answers whatever comes with the next of its bytes, and hangs up behind the last one. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

export async function answeringWith(bytes: Uint8Array): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let at = 0;
    socket.on("error", () => undefined);
    socket.on("data", () => {
      // The first two in one piece, as a device greets.
      const to = at === 0 ? 2 : at + 1;
      if (at < bytes.length) socket.write(bytes.subarray(at, to));
      else socket.end();
      at = to;
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
