/**
 * Stands between one process of the farm and nats-server, and takes the connection away.
 *
 * 1. Frozen, nothing is read from either side and the connections stand; what was on its way is delivered after the thaw.
 * 2. Cut, every connection is reset, and so is each new one until the restoring.
 */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

export class CutProxy implements AsyncDisposable {
  readonly #to: number;
  readonly #listener: Server;
  readonly #pairs = new Set<Pair>();
  #mode: "open" | "frozen" | "cut" = "open";
  port = 0;

  private constructor(to: number) {
    this.#to = to;
    this.#listener = createServer({ allowHalfOpen: true }, (client) => this.#take(client));
  }

  /** @param to port of the server on this machine; it may be away, and clients are then reset */
  static async start(to: number): Promise<CutProxy> {
    const proxy = new CutProxy(to);
    proxy.#listener.listen(0, "127.0.0.1");
    await once(proxy.#listener, "listening");
    proxy.port = (proxy.#listener.address() as { port: number }).port;
    return proxy;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  freeze(): void {
    this.#mode = "frozen";
    for (const { client, server } of this.#pairs) {
      for (const socket of [client, server]) socket.unpipe().pause();
    }
  }

  cut(): void {
    this.#mode = "cut";
    for (const pair of this.#pairs) reset(pair);
  }

  restore(): void {
    const wasFrozen = this.#mode === "frozen";
    this.#mode = "open";
    if (wasFrozen) for (const pair of this.#pairs) join(pair);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#listener.close(() => resolve()));
  }

  #take(client: Socket): void {
    const server = connect({ host: "127.0.0.1", port: this.#to, allowHalfOpen: true });
    const pair: Pair = { client, server };
    this.#pairs.add(pair);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      // The end of one side is passed on by the pipe; its failure is the other's failure as well.
      socket.on("error", () => reset(pair));
      socket.on("close", () => {
        if (client.destroyed && server.destroyed) this.#pairs.delete(pair);
      });
    }
    if (this.#mode === "cut") reset(pair);
    else if (this.#mode === "open") join(pair);
  }
}

function join({ client, server }: Pair): void {
  client.pipe(server);
  server.pipe(client);
}

function reset({ client, server }: Pair): void {
  for (const socket of [client, server]) {
    // libuv refuses to reset a socket that is being shut down, and Node then never closes it (24.21).
    if (socket.writableEnded) socket.destroy();
    else if (!socket.destroyed) socket.resetAndDestroy();
  }
}
