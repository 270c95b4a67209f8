/**
 * Looks out for devices: hears what upload agents see, tells them which devices jobs wait for, and wakes the jobs of those that come.
 *
 * Losing any of it costs time only: agents and coordinator repeat what they say, and a job that waits is tried now and then anyway.
 */
import type { Clock } from "#actor/clock.ts";
import type { CoordinatorPorts, Listening } from "#actor/coordinator-ports.ts";
import { type OtaTarget } from "#protocol/job.ts";
import { type AwaitedDevice, namesOf, repeatMs, type Sightings } from "#protocol/sighting.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { awaitedTargets } from "#coordinator/core/timing.ts";
import type { Memory } from "#coordinator/memory.ts";
import { SeenDevices, type Twins } from "#coordinator/sightings.ts";

/** What nobody sees any more leaves the core's knowledge as late as this. */
const refreshMs = 60_000;

export class Lookout {
  readonly #ports: Pick<CoordinatorPorts, "onSightings" | "publishAwaited">;
  readonly #clock: Clock;
  readonly #memory: Pick<Memory, "setReach">;
  readonly #post: (event: FarmEvent) => boolean;
  readonly #seen: SeenDevices;
  #isNews = false;
  #refreshedAt = Number.NEGATIVE_INFINITY;
  /** What the agents were told last; at first nothing, so that what a predecessor has said is taken back. */
  #told = "";
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(
    ports: Pick<CoordinatorPorts, "onSightings" | "publishAwaited">,
    clock: Clock,
    memory: Pick<Memory, "setReach">,
    post: (event: FarmEvent) => boolean,
  ) {
    this.#ports = ports;
    this.#clock = clock;
    this.#memory = memory;
    this.#post = post;
    this.#seen = new SeenDevices(clock);
  }

  /** @param farm as it is committed */
  listen(farm: () => Farm): Listening {
    return this.#ports.onSightings((sightings) => this.#hear(sightings, farm()));
  }

  twins(): readonly Twins[] {
    return this.#seen.twins();
  }

  /** Called at each beat. */
  check(farm: Farm): void {
    const now = this.#clock.monotonic();
    if (this.#isNews || now - this.#refreshedAt >= refreshMs) {
      this.#isNews = false;
      this.#refreshedAt = now;
      this.#memory.setReach(this.#seen.reach());
    }
    const awaited = awaitedTargets(farm).map(awaitedDevice);
    const text = JSON.stringify(awaited);
    const isSaid = text === this.#told;
    if (isSaid && (awaited.length === 0 || now - this.#toldAt < repeatMs)) return;
    this.#told = text;
    this.#toldAt = now;
    this.#ports.publishAwaited(awaited);
  }

  #hear(sightings: Sightings, farm: Farm): void {
    this.#isNews = this.#seen.hear(sightings) || this.#isNews;
    const awaited = awaitedTargets(farm);
    if (awaited.length === 0) return;
    const wanted = new Set(awaited.flatMap(({ name, formerName = name }) => [name, formerName]));
    for (const { mac, via, network, ...device } of sightings.seen) {
      // For a device on Thread its border router speaks, also while it sleeps.
      if (via === "mdns" && network === "thread") continue;
      const names = namesOf({ name: device.name, mac });
      const isWanted =
        names.some((name) => wanted.has(name)) ||
        (mac !== undefined && awaited.some((target) => target.mac?.toUpperCase() === mac));
      if (isWanted) this.#post({ kind: "device-seen", names, mac, agent: sightings.agent });
    }
  }
}

function awaitedDevice({ name, formerName, host, port, api, mac }: OtaTarget): AwaitedDevice {
  return {
    name: formerName ?? name,
    host,
    otaPort: port,
    ...(api === undefined ? {} : { apiPort: api.port }),
    ...(mac === undefined ? {} : { mac: mac.toUpperCase() }),
  };
}
