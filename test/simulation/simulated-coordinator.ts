/**
 * A coordinator's machine: the production `Leadership` and `Coordinator` in a process that can be killed, paused and cut off.
 *
 * 1. Every start is a new process; of the old one only what was under way to the server may still happen.
 * 2. Two machines know of each other by the lease alone.
 */
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import type { Lease } from "#actor/lease.ts";
import { silentLog } from "#actor/log.ts";
import { BootId } from "#protocol/ids.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import type { Lead } from "#coordinator/held-lease.ts";
import { Leadership } from "#coordinator/leadership.ts";
import { SimulatedConnection } from "#test/simulation/simulated-connection.ts";
import { simulatedLease } from "#test/simulation/simulated-lease.ts";
import { simulatedPorts } from "#test/simulation/simulated-ports.ts";
import { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import type { Decide, SimulatedWorld } from "#test/simulation/simulated-world.ts";

/** What a test puts in the place of the sound parts; each is made anew for every reign. */
export interface CoordinatorFault {
  readonly ports?: (sound: CoordinatorPorts, connection: SimulatedConnection) => CoordinatorPorts;
  readonly decide?: (sound: Decide) => Decide;
  readonly lease?: (sound: Lease) => Lease;
  readonly lead?: (sound: Lead) => Lead;
}

export class SimulatedCoordinator {
  readonly name: string;
  readonly #world: SimulatedWorld;
  readonly #decide: Decide;
  readonly #fault: CoordinatorFault;
  #connection: SimulatedConnection | undefined;
  #boots = 0;

  constructor(world: SimulatedWorld, name: string, decide: Decide, fault: CoordinatorFault) {
    this.#world = world;
    this.name = name;
    this.#decide = decide;
    this.#fault = fault;
  }

  get isRunning(): boolean {
    return this.#connection?.process.isAlive === true;
  }

  /** Whether it answers requests, or would if it were not paused. */
  get isLeading(): boolean {
    return this.isRunning && this.#world.server.subjects.isServedBy("admin", this.name);
  }

  /** Whether it could lead at this moment. */
  get isAble(): boolean {
    return this.isRunning && this.#connection?.process.isPaused === false && !this.#world.network.isCut(this.name);
  }

  start(): void {
    if (this.isRunning) return;
    const world = this.#world;
    this.#boots += 1;
    world.trace(`${this.name} starts`);
    const process = new SimulatedProcess(world.time, this.name, () => world.wallClock());
    const connection = new SimulatedConnection(world, process);
    this.#connection = connection;
    process.onDeath(() => world.server.subjects.forget(this.name));
    const holder = BootId.parse(`${this.name.replaceAll("-", "")}boot${this.#boots}`);
    const lease = simulatedLease(connection, { holder, host: this.name, pid: this.#boots });
    const { lease: withFault = (sound: Lease) => sound } = this.#fault;
    const leadership = new Leadership(withFault(lease), process.clock, silentLog, (lead) =>
      this.#reign(connection, lead),
    );
    process.deliver(() => void leadership.start());
    leadership.finished().catch((error: unknown) => world.watcher.died(this.name, error));
  }

  kill(): void {
    if (this.isRunning) this.#world.trace(`${this.name} is killed`);
    this.#connection?.process.kill();
  }

  pause(ms: number): void {
    this.#connection?.process.pauseFor(ms);
  }

  /** Cuts it off from the server. It notices both the beginning and the end. */
  cut(ms: number): void {
    const { network, time } = this.#world;
    network.cut(this.name, ms);
    const connection = this.#connection;
    connection?.disconnected();
    time.after(ms + 1, () => {
      if (!network.isCut(this.name)) connection?.reconnected();
    });
  }

  #reign(connection: SimulatedConnection, lead: Lead): Coordinator {
    const { ports = (sound) => sound, decide = (sound) => sound, lead: withFault = (sound) => sound } = this.#fault;
    const { watcher } = this.#world;
    const deciding = decide(this.#decide);
    this.#world.trace(`${this.name} takes the lead`);
    return new Coordinator(ports(simulatedPorts(connection), connection), connection.process.clock, silentLog, {
      lead: withFault(lead),
      decide: (farm, events, at) => {
        const step = deciding(farm, events, at);
        if (step.farm.chains !== farm.chains) watcher.decided(step.farm);
        return step;
      },
    });
  }
}
