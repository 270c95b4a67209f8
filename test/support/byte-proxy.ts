/** Stands in front of a device's port and cuts each connection after as many bytes of either side as it is told. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export interface Cut {
  /** Bytes of the client that still reach the device. */
  readonly clientBytes?: number;
  /** Bytes of the device that still reach the client. */
  readonly deviceBytes?: number;
}

export class ByteProxy implements AsyncDisposable {
  /** Where connections are cut from now on: the client's side breaks, the device's side ends behind what it was sent. */
  cut: Cut = {};
  port = 0;
  readonly #to: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(to: number) {
    this.#to = to;
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#take(client));
  }

  static async start(to: number): Promise<ByteProxy> {
    const proxy = new ByteProxy(to);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    proxy.port = (proxy.#server.address() as { port: number }).port;
    return proxy;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #take(client: Socket): void {
    const device = connect({ host: "127.0.0.1", port: this.#to, allowHalfOpen: true, noDelay: true });
    client.setNoDelay(true);
    const { clientBytes = Infinity, deviceBytes = Infinity } = this.cut;
    const pass = (from: Socket, to: Socket, bytesMax: number) => {
      let left = bytesMax;
      this.#sockets.add(from);
      from.on("error", () => {});
      from.on("data", (chunk: Buffer) => {
        const part = chunk.subarray(0, left);
        left -= part.length;
        to.write(part, () => {
          if (left > 0) return;
          client.resetAndDestroy();
          device.end();
        });
      });
      from.on("end", () => to.end());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.end();
      });
    };
    pass(client, device, clientBytes);
    pass(device, client, deviceBytes);
  }
}
