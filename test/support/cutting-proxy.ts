/** Stands between a client and nats-server, and resets each connection after as many bytes as it is told. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export class CuttingProxy implements AsyncDisposable {
  readonly #to: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #nextBudget: () => number;
  /** Connections that were reset. */
  cuts = 0;

  private constructor(to: number, nextBudget: () => number) {
    this.#to = to;
    this.#nextBudget = nextBudget;
    this.#server = createServer((client) => this.#take(client));
  }

  /** @param nextBudget bytes that the next connection passes in both directions together */
  static async start(to: number, nextBudget: () => number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(to, nextBudget);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url(): string {
    return `nats://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #take(client: Socket): void {
    const server = connect({ host: "127.0.0.1", port: this.#to });
    let left = this.#nextBudget();
    const pass = (from: Socket, to: Socket) => {
      this.#sockets.add(from);
      from.on("data", (chunk: Buffer) => {
        const part = chunk.subarray(0, left);
        left -= part.length;
        if (!to.write(part)) from.pause();
        if (left > 0) return;
        if (!client.destroyed) this.cuts += 1;
        for (const socket of [client, server]) if (!socket.destroyed) socket.resetAndDestroy();
      });
      to.on("drain", () => from.resume());
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    };
    pass(client, server);
    pass(server, client);
  }
}
