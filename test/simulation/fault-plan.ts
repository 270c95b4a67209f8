/**
 * What goes wrong in one run, and how much. Each seed switches on some kinds of trouble and leaves others out, because a
 * farm in which everything fails at once gets nowhere near the rare states.
 *
 * The wait before a lost flash is probed (lease and the device's own time limit, 135 s) is the longest cut that a living
 * flash can outlast unseen; cuts and clock jumps stay below it together, as the design presumes.
 */
import { deviceDataTimeoutMs, leaseMs } from "#protocol/limits.ts";
import type { SessionFate } from "#test/simulation/simulated-device.ts";
import type { NetworkFaults } from "#test/simulation/simulated-network.ts";
import type { SimulatedRandom } from "#test/simulation/simulated-random.ts";

export type Trouble =
  | { readonly kind: "coordinator-crash"; readonly downMs: number }
  /** Paused, perhaps replaced by one that stood by, and then awake again beside it. */
  | { readonly kind: "coordinator-pause"; readonly ms: number }
  | { readonly kind: "coordinator-cut"; readonly ms: number }
  | { readonly kind: "server-restart"; readonly downMs: number }
  | { readonly kind: "agent-kill"; readonly agent: number; readonly downMs: number; readonly forGood: boolean }
  | { readonly kind: "agent-shutdown"; readonly agent: number; readonly downMs: number }
  | { readonly kind: "agent-pause"; readonly agent: number; readonly ms: number }
  | { readonly kind: "agent-cut"; readonly agent: number; readonly ms: number }
  | { readonly kind: "device-away"; readonly device: number; readonly ms: number }
  | { readonly kind: "clock-jump"; readonly ms: number };

export interface FaultPlan {
  readonly chaosMs: number;
  /** Coordinators beside the first one. */
  readonly standbys: number;
  readonly network: NetworkFaults;
  readonly troubles: readonly { readonly at: number; readonly trouble: Trouble }[];
  readonly buildFailureChance: number;
  /** How often a user interferes with an upload that has just started. */
  readonly meddlingChance: number;
  readonly fates: readonly SessionFate[];
}

const clockJumpMsMax = 20_000;
const cutMsMax = leaseMs + deviceDataTimeoutMs - clockJumpMsMax - 15_000;

/** @param focus the only kinds of trouble, for tests of one mistake; otherwise chance picks some. */
export function planFaults(random: SimulatedRandom, focus?: readonly Trouble["kind"][]): FaultPlan {
  const chaosMs = random.between(15_000, 80_000);
  const kinds: readonly Trouble["kind"][] = focus ?? troubleKinds.filter(() => random.chance(0.4));
  const troubles =
    kinds.length === 0
      ? []
      : Array.from({ length: random.pick([1, 4, 8]) }, () => ({
          at: random.between(100, chaosMs),
          trouble: makeTrouble(random, random.pick(kinds)),
        }));
  return {
    chaosMs,
    standbys: random.chance(kinds.includes("coordinator-pause") ? 0.7 : 0.1) ? 1 : 0,
    network: {
      lossChance: random.pick([0, 0, 0.02, 0.1]),
      repeatChance: random.pick([0, 0.05, 0.2]),
      slowChance: random.pick([0, 0.03, 0.1]),
      slowMsMax: random.pick([100, 3_000, 6_000]),
    },
    troubles,
    buildFailureChance: random.pick([0, 0.1, 0.3]),
    meddlingChance: random.pick([0, 0.1, 0.4]),
    fates: random.chance(0.5)
      ? ["takes-it"]
      : ["takes-it", "takes-it", "breaks", "acknowledgement-lost", "rolls-back", "rolls-back-later"],
  };
}

const troubleKinds = [
  "coordinator-crash",
  "coordinator-pause",
  "coordinator-cut",
  "server-restart",
  "agent-kill",
  "agent-shutdown",
  "agent-pause",
  "agent-cut",
  "device-away",
  "clock-jump",
] as const satisfies readonly Trouble["kind"][];

function makeTrouble(random: SimulatedRandom, kind: Trouble["kind"]): Trouble {
  const agent = random.between(0, 7);
  switch (kind) {
    case "coordinator-crash":
      return { kind, downMs: random.pick([50, 2_000, 25_000]) };
    case "coordinator-pause":
      return { kind, ms: random.pick([random.between(100, 4_000), random.between(4_000, 20_000)]) };
    case "coordinator-cut":
      return { kind, ms: random.between(100, 15_000) };
    case "server-restart":
      return { kind, downMs: random.between(50, 3_000) };
    case "agent-kill":
      return { kind, agent, downMs: random.pick([200, 3_000, 12_000]), forGood: random.chance(0.2) };
    case "agent-shutdown":
      return { kind, agent, downMs: random.between(100, 8_000) };
    case "agent-pause":
      return { kind, agent, ms: random.pick([500, 8_000, 40_000, 160_000]) };
    case "agent-cut":
      return { kind, agent, ms: random.pick([500, 8_000, 30_000, cutMsMax]) };
    case "device-away":
      return { kind, device: random.between(0, 7), ms: random.between(500, 40_000) };
    case "clock-jump":
      return { kind, ms: random.between(-clockJumpMsMax, clockJumpMsMax) };
  }
}
