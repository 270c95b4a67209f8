/** Hints about devices between upload agents and coordinators, as `bus/sightings.ts` has them over NATS: lost without a trace. */
import type { Listening } from "#actor/coordinator-ports.ts";
import type { AwaitedDevice, Sightings } from "#protocol/sighting.ts";
import type { SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import type { SimulatedServer } from "#test/simulation/simulated-server.ts";

interface Hearer<T> {
  /** Its end in the network. */
  readonly end: string;
  hear(hint: T): void;
}

export class SimulatedSightings {
  readonly #coordinators = new Set<Hearer<Sightings>>();
  readonly #agents = new Set<Hearer<readonly AwaitedDevice[]>>();

  listen(coordinator: Hearer<Sightings>): Listening {
    return listening(this.#coordinators, coordinator);
  }

  /** An upload agent hears which devices are awaited. */
  onAwaited(agent: Hearer<readonly AwaitedDevice[]>): Listening {
    return listening(this.#agents, agent);
  }

  /** An upload agent says what it sees. */
  sees(network: SimulatedNetwork, sightings: Sightings): void {
    tell(this.#coordinators, network, sightings.agent, sightings);
  }

  /** A coordinator says which devices are awaited. */
  awaits(network: SimulatedNetwork, from: string, devices: readonly AwaitedDevice[]): void {
    tell(this.#agents, network, from, devices);
  }
}

function listening<T>(hearers: Set<Hearer<T>>, hearer: Hearer<T>): Listening {
  hearers.add(hearer);
  return { stop: () => void hearers.delete(hearer) };
}

function tell<T>(hearers: ReadonlySet<Hearer<T>>, network: SimulatedNetwork, from: string, hint: T): void {
  for (const hearer of hearers) network.send(from, hearer.end, () => hearer.hear(hint));
}

const ofServers = new WeakMap<SimulatedServer, SimulatedSightings>();

/** The hints that go through a server. */
export function sightingsOf(server: SimulatedServer): SimulatedSightings {
  const known = ofServers.get(server) ?? new SimulatedSightings();
  ofServers.set(server, known);
  return known;
}
