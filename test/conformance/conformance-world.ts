/** What the suites of this folder are run over: a nats-server, and the server in memory that stands in for it in the simulation. */
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import { type Clock, systemClock } from "#actor/clock.ts";
import type { LaneSource } from "#actor/lane-worker.ts";
import type { Lease } from "#actor/lease.ts";
import { silentLog } from "#actor/log.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { CoordinatorLease } from "#bus/coordinator-lease.ts";
import { laneSource } from "#bus/lanes.ts";
import { announce } from "#bus/presence.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { AgentId, BootId } from "#protocol/ids.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { SimulatedConnection } from "#test/simulation/simulated-connection.ts";
import { simulatedLane } from "#test/simulation/simulated-lane.ts";
import { simulatedLease } from "#test/simulation/simulated-lease.ts";
import { SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import { simulatedPorts } from "#test/simulation/simulated-ports.ts";
import { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import { SimulatedServer } from "#test/simulation/simulated-server.ts";
import { SimulatedTime } from "#test/simulation/simulated-time.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

/** One server; everything that it gives has a connection of its own, as a process has. */
export interface ConformanceWorld extends AsyncDisposable {
  readonly clock: Clock;
  ports(): Promise<CoordinatorPorts>;
  /** The compile lane of an agent. */
  lane(agent: AgentId, slots: number): Promise<LaneSource>;
  /** States an agent once. */
  announcer(): Promise<(announcement: Announcement) => void>;
  lease(holder: BootId): Promise<Lease>;
}

export const worlds: readonly [string, () => Promise<ConformanceWorld>][] = [
  ["over memory", () => Promise.resolve(new MemoryWorld())],
  ["over NATS", () => NatsWorld.start()],
];

class NatsWorld implements ConformanceWorld {
  readonly clock = systemClock;
  readonly #server: TestServer;

  private constructor(server: TestServer) {
    this.#server = server;
  }

  static async start(): Promise<NatsWorld> {
    const world = new NatsWorld(await testServer());
    await (await world.ports()).prepare();
    return world;
  }

  async ports(): Promise<CoordinatorPorts> {
    return coordinatorPorts(await this.#server.connect());
  }

  async lane(agent: AgentId, slots: number): Promise<LaneSource> {
    return laneSource(await this.#server.connect(), "compile", agent, slots, silentLog);
  }

  async announcer(): Promise<(announcement: Announcement) => void> {
    const connection = await this.#server.connect();
    return (announcement) => announce(connection, announcement);
  }

  async lease(holder: BootId): Promise<Lease> {
    return new CoordinatorLease(await this.#server.connect(), this.clock, { holder, host: "here", pid: 1 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

/** Simulated time goes on by itself, a step for each turn of the event loop. */
class MemoryWorld implements ConformanceWorld {
  readonly #time = new SimulatedTime();
  readonly #world: SimulatedWorld;
  readonly #clockwork: Promise<void>;
  #processes = 0;
  #isOver = false;

  constructor() {
    const random = new SimulatedRandom(1);
    const network = new SimulatedNetwork(this.#time, random);
    const nobody = () => undefined;
    this.#world = {
      time: this.#time,
      random,
      network,
      server: new SimulatedServer(this.#time, network, { written: nobody, landed: nobody }),
      watcher: {
        decided: nobody,
        commitFailed: nobody,
        asked: nobody,
        answered: nobody,
        settled: nobody,
        began: nobody,
        ended: nobody,
        kept: nobody,
        noted: nobody,
        stated: nobody,
        died: nobody,
      },
      wallClock: () => this.#time.now,
      trace: nobody,
    };
    this.#clockwork = this.#run();
  }

  get clock(): Clock {
    return this.#process("clock").clock;
  }

  ports(): Promise<CoordinatorPorts> {
    return Promise.resolve(simulatedPorts(this.#connection()));
  }

  lane(agent: AgentId, slots: number): Promise<LaneSource> {
    return Promise.resolve(simulatedLane(this.#world, this.#process(agent), slots));
  }

  announcer(): Promise<(announcement: Announcement) => void> {
    const { network, server } = this.#world;
    return Promise.resolve((announcement: Announcement) =>
      network.sendInOrder(announcement.agent, announcement.agent, "server", () => server.state(announcement)),
    );
  }

  lease(holder: BootId): Promise<Lease> {
    return Promise.resolve(simulatedLease(this.#connection(), { holder, host: "here", pid: 1 }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#clockwork;
  }

  #connection(): SimulatedConnection {
    this.#processes += 1;
    return new SimulatedConnection(this.#world, this.#process(`process-${this.#processes}`));
  }

  #process(name: string): SimulatedProcess {
    return new SimulatedProcess(this.#time, name, () => this.#time.now);
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      await this.#time.run(this.#time.now + 5, () => false);
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
  }
}
