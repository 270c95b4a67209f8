/**
 * What goes wrong in one run: decided by the seed before it starts. Pure.
 *
 * 1. A victim suffers one fault at a time; different victims suffer at the same time.
 * 2. Short faults are the rule: a farm whose parts are all away gets nowhere near the interesting moments.
 */
import type { SimulatedRandom } from "#test/simulation/simulated-random.ts";

/**
 * - `kill`: SIGKILL, and a start after `ms`; `pause`: SIGSTOP, and SIGCONT after `ms`.
 * - `freeze-link`: nothing passes between a process and nats-server, and both believe that they are connected;
 *   `cut-link`: the connections break, and new ones are refused for `ms`.
 * - `cut-early`, `cut-midway`, `cut-late`: for `ms`, sessions at a device's update server break before the first byte of the
 *   image, after `atBytes` of it, or after the last one.
 */
export const faultKinds = ["kill", "pause", "freeze-link", "cut-link", "cut-early", "cut-midway", "cut-late"] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface Fault {
  readonly kind: FaultKind;
  /** A process; its link to nats-server is `<process> link`; a device. */
  readonly victim: string;
  /** From the start of the faults. */
  readonly at: number;
  readonly ms: number;
  /** For `cut-midway`. */
  readonly atBytes: number;
}

export interface Victims {
  readonly processes: readonly string[];
  readonly links: readonly string[];
  readonly devices: readonly string[];
}

export interface FaultPlanOptions {
  readonly count: number;
  readonly overMs: number;
  readonly victims: Victims;
}

/** How often each kind is drawn, of 20. */
const weights: Readonly<Record<FaultKind, number>> = {
  kill: 5,
  pause: 4,
  "freeze-link": 3,
  "cut-link": 3,
  "cut-early": 1,
  "cut-midway": 2,
  "cut-late": 2,
};
const lottery = faultKinds.flatMap((kind) => Array.from({ length: weights[kind] }, () => kind));

type Range = readonly [least: number, most: number];
interface Ranges {
  readonly short: Range;
  readonly middle: Range;
  readonly long: Range;
}

const linkRanges: Ranges = { short: [100, 1_500], middle: [1_500, 4_500], long: [4_500, 20_000] };
/** Long enough that a device is flashed meanwhile, every second time. */
const sessionRanges: Ranges = { short: [3_000, 8_000], middle: [8_000, 15_000], long: [15_000, 25_000] };
const ranges: Readonly<Record<FaultKind, Ranges>> = {
  kill: { short: [50, 500], middle: [500, 2_000], long: [2_000, 8_000] },
  pause: { short: [200, 1_500], middle: [1_500, 4_500], long: [4_500, 12_000] },
  "freeze-link": linkRanges,
  "cut-link": linkRanges,
  "cut-early": sessionRanges,
  "cut-midway": sessionRanges,
  "cut-late": sessionRanges,
};

/** Between two faults of one victim; a process that was started again gets as far as working. */
const restMs = 1_500;
/** A compressed image of the factory's program has 200 kB. */
const midwayBytesMax = 150_000;
/** So many draws find a free victim, or the fault comes on top of another one a moment later. */
const drawsMax = 50;

/** @returns as many faults as were asked for, in the order of their instants */
export function planFaults(random: SimulatedRandom, { count, overMs, victims }: FaultPlanOptions): readonly Fault[] {
  const instants = Array.from({ length: count }, () => random.between(0, overMs)).toSorted((a, b) => a - b);
  const freeAt = new Map<string, number>();
  return instants
    .map((wanted) => {
      for (let draw = 0; ; draw++) {
        const kind = random.pick(lottery);
        const victim = random.pick(victimsOf(kind, victims));
        const free = freeAt.get(victim) ?? 0;
        if (free > wanted && draw < drawsMax) continue;
        const at = Math.max(wanted, free);
        const ms = durationOf(random, kind);
        freeAt.set(victim, at + ms + restMs);
        return { kind, victim, at, ms, atBytes: random.between(1, midwayBytesMax) };
      }
    })
    .toSorted((a, b) => a.at - b.at);
}

export function linkOf(process: string): string {
  return `${process} link`;
}

function victimsOf(kind: FaultKind, victims: Victims): readonly string[] {
  switch (kind) {
    case "kill":
    case "pause":
      return victims.processes;
    case "freeze-link":
    case "cut-link":
      return victims.links;
    case "cut-early":
    case "cut-midway":
    case "cut-late":
      return victims.devices;
  }
}

/**
 * Two of three are short; one of twelve outlasts the five seconds after which an agent counts as lost, because a device whose
 * flash was lost waits 135 s before it is asked, and gets nothing else meanwhile.
 */
function durationOf(random: SimulatedRandom, kind: FaultKind): number {
  const length = random.next();
  const { short, middle, long } = ranges[kind];
  if (length < 0.67) return random.between(...short);
  return random.between(...(length < 0.92 ? middle : long));
}
