/**
 * One process' connection to the simulated server.
 *
 * 1. Every answer comes through the process: never to a dead one, and to a paused one when it goes on.
 * 2. What was asked of the server may happen after the process has died.
 */
import type { Listening } from "#actor/coordinator-ports.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

export class SimulatedConnection {
  readonly process: SimulatedProcess;
  readonly world: SimulatedWorld;
  readonly #onDisconnect = new Set<() => void>();
  readonly #onReconnect = new Set<() => void>();

  constructor(world: SimulatedWorld, process: SimulatedProcess) {
    this.world = world;
    this.process = process;
  }

  /** The process' end in the network; no two processes share one. */
  get end(): string {
    return this.process.name;
  }

  onDisconnect(call: () => void): Listening {
    this.#onDisconnect.add(call);
    return { stop: () => void this.#onDisconnect.delete(call) };
  }

  onReconnect(call: () => void): Listening {
    this.#onReconnect.add(call);
    return { stop: () => void this.#onReconnect.delete(call) };
  }

  disconnected(): void {
    this.process.deliver(() => {
      for (const call of this.#onDisconnect) call();
    });
  }

  reconnected(): void {
    this.process.deliver(() => {
      for (const call of this.#onReconnect) call();
    });
  }

  /** Runs at the server, perhaps twice, and gives what it gave. @throws UnavailableError when no answer came in time */
  request<T>(doing: string, timeoutMs: number, atServer: () => T): Promise<T> {
    return this.#request(doing, timeoutMs, atServer, (arrive) => this.world.network.send(this.end, "server", arrive));
  }

  /** As `request`, but once, and behind what was asked in order before. */
  requestInOrder<T>(doing: string, timeoutMs: number, atServer: () => T): Promise<T> {
    return this.#request(doing, timeoutMs, atServer, (arrive) =>
      this.world.network.sendInOrder(this.end, this.end, "server", arrive),
    );
  }

  #request<T>(doing: string, timeoutMs: number, atServer: () => T, send: (arrive: () => void) => void): Promise<T> {
    const { process, world } = this;
    return new Promise((resolve, reject) => {
      const cancel = process.after(timeoutMs, () =>
        reject(new UnavailableError("timeout", `no answer in time: ${doing}`)),
      );
      send(() => {
        const given = atServer();
        world.network.send("server", this.end, () =>
          process.deliver(() => {
            cancel();
            resolve(given);
          }),
        );
      });
    });
  }
}
