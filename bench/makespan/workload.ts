/**
 * What a run has to do: machines, 50 devices, and how long each job really takes. Made from a seed.
 *
 * Durations are those of issue 5: builds 20 to 180 s cold and 1 to 5 s in a warm tree; flashes 8 to 30 s by Wi-Fi, 15 to 40 s by a
 * serial port, 540 s by Thread, where each border router carries one at a time.
 */
import { AgentId, Configuration } from "#protocol/ids.ts";
import type { Medium } from "#protocol/job.ts";
import { Random } from "#bench/makespan/random.ts";

export const deviceCount = 50;
/** Builds of one machine at a time. */
export const compileSlots = 1;
/** Flashes of one upload agent at a time; a Raspberry Pi keeps up with as many. */
export const uploadSlots = 4;

/** How much of the devices' trees is there, as everything else is equal. */
export type Caches = "none" | "warm";
export type Media = "wifi" | "mixed";

export interface Scenario {
  readonly servers: number;
  readonly uploaders: number;
  readonly media: Media;
  readonly caches: Caches;
}

export interface Device {
  readonly configuration: Configuration;
  readonly medium: Medium;
  readonly coldMs: number;
  readonly warmMs: number;
  readonly flashMs: number;
  /** Build machines that have its tree at the start. */
  readonly warmAt: readonly AgentId[];
  /** A serial port is at one machine. */
  readonly on?: AgentId;
}

export interface Workload {
  readonly seed: number;
  readonly scenario: Scenario;
  readonly builders: readonly AgentId[];
  readonly uploaders: readonly AgentId[];
  /** In the order in which they are asked for. */
  readonly devices: readonly Device[];
}

export function makeWorkload(seed: number, scenario: Scenario): Workload {
  const random = new Random(seed);
  const builders = namesOf("builder", scenario.servers);
  const uploaders = namesOf("uploader", scenario.uploaders);
  const devices = Array.from({ length: deviceCount }, (_, index): Device => {
    const configuration = Configuration.parse(`device ${index + 1}`);
    const coldMs = random.between(20_000, 180_000);
    const warmMs = random.between(1_000, 5_000);
    const medium = scenario.media === "wifi" ? ({ kind: "wifi" } as const) : mixedMedium(random);
    const flashMs = flashMsOf(medium, random);
    const warmAt = scenario.caches === "none" ? [] : warmAtOf(builders, random);
    const device = { configuration, medium, coldMs, warmMs, flashMs, warmAt };
    const on = uploaders[random.whole(uploaders.length)];
    return medium.kind === "serial" && on !== undefined ? { ...device, on } : device;
  });
  return { seed, scenario, builders, uploaders, devices };
}

function namesOf(role: string, count: number): readonly AgentId[] {
  return Array.from({ length: count }, (_, index) => AgentId.parse(`${role}-${index + 1}`));
}

/** Seven of ten by Wi-Fi, three of twenty each over two border routers and four ports. */
function mixedMedium(random: Random): Medium {
  const share = random.next();
  if (share < 0.7) return { kind: "wifi" };
  if (share < 0.85) return { kind: "thread", segment: `hall-${1 + random.whole(2)}` };
  return { kind: "serial", segment: `port-${1 + random.whole(4)}` };
}

function flashMsOf({ kind }: Medium, random: Random): number {
  switch (kind) {
    case "thread":
      return 540_000;
    case "serial":
      return random.between(15_000, 40_000);
    case "wifi":
    case "ethernet":
      return random.between(8_000, 30_000);
  }
}

/** As a farm looks that has grown: the first machine has been there longest and has more trees; a tenth is nowhere, a fifth twice. */
function warmAtOf(builders: readonly AgentId[], random: Random): readonly AgentId[] {
  const share = random.next();
  const count = share < 0.1 ? 0 : share < 0.3 ? 2 : 1;
  const chosen = new Set<AgentId>();
  for (let taken = 0; taken < Math.min(count, builders.length);) {
    const index = Math.floor(builders.length * random.next() ** 1.5);
    const builder = builders[index];
    if (builder === undefined || chosen.has(builder)) continue;
    chosen.add(builder);
    taken += 1;
  }
  return [...chosen];
}
