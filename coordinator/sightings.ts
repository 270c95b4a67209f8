/**
 * What upload agents have seen lately. It is learned anew within a minute, so it is kept nowhere else, and no promise rests on it.
 *
 * 1. What nobody has seen for `forgottenAfterMs` is forgotten.
 * 2. No more than `seenMax` names are kept, each with no more than `perNameMax` agents and addresses; the one seen longest ago goes first.
 */
import type { Clock } from "#actor/clock.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Sighting, Sightings } from "#protocol/sighting.ts";

/** Twice the devices of the largest farm that is meant. */
const seenMax = 10_000;
/** Agents remind of everything that they see each minute. */
const forgottenAfterMs = 600_000;
const perNameMax = 16;

/** An agent that has seen a device. */
export interface Reach {
  readonly agent: AgentId;
  /** On the coordinator's monotonic clock. */
  readonly seenAt: number;
  readonly last: Sighting;
}

/** A name that more than one device says is its own. */
export interface Twins {
  readonly name: string;
  readonly macs: readonly string[];
}

interface Seen {
  readonly byAgent: Map<AgentId, Reach>;
  /** When each of them was seen last. */
  readonly macs: Map<string, number>;
  seenAt: number;
}

export class SeenDevices {
  readonly #clock: Clock;
  /** In the order in which they were seen last. */
  readonly #seen = new Map<string, Seen>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @returns whether an agent has seen a device that it had not seen lately */
  hear({ agent, seen }: Sightings): boolean {
    const seenAt = this.#clock.monotonic();
    let isNews = false;
    for (const last of seen) {
      const device = this.#seen.get(last.name) ?? { byAgent: new Map(), macs: new Map(), seenAt };
      device.seenAt = seenAt;
      isNews ||= !device.byAgent.has(agent);
      remember(device.byAgent, agent, { agent, seenAt, last }, perNameMax);
      if (last.mac !== undefined) remember(device.macs, last.mac, seenAt, perNameMax);
      remember(this.#seen, last.name, device, seenMax);
    }
    this.#forget();
    return isNews;
  }

  /** By the name that a device says, the agents that have seen it lately. */
  reach(): ReadonlyMap<string, ReadonlySet<AgentId>> {
    return new Map([...this.#seen.keys()].map((name) => [name, new Set(this.reachOf(name).map(({ agent }) => agent))]));
  }

  /** The agents that have seen a device of this name lately, the last one first. */
  reachOf(name: string): readonly Reach[] {
    const since = this.#since();
    const reach = [...(this.#seen.get(name)?.byAgent.values() ?? [])].filter(({ seenAt }) => seenAt >= since);
    return reach.toReversed();
  }

  /** Names that two or more devices have claimed lately: which of them would be flashed is chance. */
  twins(): readonly Twins[] {
    const since = this.#since();
    return [...this.#seen].flatMap(([name, { macs }]) => {
      const recent = [...macs].filter(([, seenAt]) => seenAt >= since).map(([mac]) => mac);
      return recent.length < 2 ? [] : [{ name, macs: recent.sort() }];
    });
  }

  #since(): number {
    return this.#clock.monotonic() - forgottenAfterMs;
  }

  /** Invariant 1. */
  #forget(): void {
    const since = this.#since();
    for (const [name, { seenAt }] of this.#seen) {
      if (seenAt >= since) return;
      this.#seen.delete(name);
    }
  }
}

/** Invariant 2. */
function remember<K, V>(map: Map<K, V>, key: K, value: V, max: number): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > max && oldest !== undefined) map.delete(oldest);
}
