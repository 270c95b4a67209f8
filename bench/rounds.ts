/**
 * The order of things: per durability all contenders are started and warmed up, then they take turns, so that whatever else the
 * machine does meanwhile falls on all of them. Only one works at a time; the servers of the others are idle.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Contender, Durability } from "#bench/contender.ts";
import { latencyRun, throughputRun } from "#bench/measure.ts";
import { percentile } from "#bench/percentile.ts";
import type { Entrant, RoundFigures } from "#bench/report.ts";

/** Slots of each lane in the throughput runs. */
export const slotCounts = [1, 4, 16] as const;

export interface Plan {
  /** Chains of one throughput run; a latency run has three tenths of them. */
  readonly chains: number;
  readonly rounds: number;
  /** No round but the first of a durability is begun when it would probably end later than this. */
  readonly seconds: number;
}

function latencyCount(chains: number): number {
  return Math.ceil(chains * 0.3);
}

/** One contender's turn in a round. */
async function takeTurn(contender: Contender, plan: Plan, signal: AbortSignal): Promise<RoundFigures> {
  const samples = await latencyRun(contender, latencyCount(plan.chains), signal);
  const figures = (values: readonly number[]) => ({ p50: percentile(values, 50), p99: percentile(values, 99) });
  const chainsPerSecond = new Map<number, number>();
  for (const count of slotCounts) {
    chainsPerSecond.set(count, await throughputRun(contender, { slots: count, chains: plan.chains }, signal));
  }
  return {
    requestToCompile: figures(samples.requestToCompileMs),
    compileToUpload: figures(samples.compileToUploadMs),
    chainsPerSecond,
  };
}

/** Code that has not been compiled yet, in any process of the contender, is not what is compared. */
async function warmUp(contender: Contender, plan: Plan, signal: AbortSignal): Promise<void> {
  await latencyRun(contender, latencyCount(Math.ceil(plan.chains / 5)), signal);
  await throughputRun(contender, { slots: 4, chains: Math.ceil(plan.chains / 2) }, signal);
}

export interface Outcome {
  readonly entrants: readonly Entrant[];
  /** What was running, as each contender says it. */
  readonly versions: readonly string[];
}

interface Setting {
  /** Empty; each contender gets a folder in it. */
  readonly folder: string;
  readonly signal: AbortSignal;
  /** On `performance.now()`; see `Plan.seconds`. */
  readonly until: number;
  readonly progress: (line: string) => void;
}

/**
 * Starts all contenders, lets them take turns, and stops them, whatever happens.
 * @throws what `start` throws; UnavailableError when a run hangs or the signal fires; InvariantError when a chain ran twice.
 */
export async function compare(
  all: readonly Contender[],
  durability: Durability,
  plan: Plan,
  { folder, signal, until, progress }: Setting,
): Promise<Outcome> {
  const versions: string[] = [];
  const entrants = all.map((contender) => ({ contender, rounds: [] as RoundFigures[] }));
  try {
    for (const [index, contender] of all.entries()) {
      const workFolder = join(folder, `${durability}-${index}`);
      await mkdir(workFolder, { recursive: true });
      versions.push(await contender.start(durability, workFolder));
      progress(`${durability}: warming up ${contender.name}`);
      await warmUp(contender, plan, signal);
    }
    let longestMs = 0;
    for (let round = 1; round <= plan.rounds; round += 1) {
      const startedAt = performance.now();
      if (startedAt + longestMs > until) {
        progress(`${durability}: no time for round ${round} of ${plan.rounds}; --seconds allows more`);
        break;
      }
      for (const { contender, rounds } of entrants) {
        progress(`${durability}: round ${round} of ${plan.rounds}, ${contender.name}`);
        rounds.push(await takeTurn(contender, plan, signal));
      }
      longestMs = Math.max(longestMs, performance.now() - startedAt);
    }
  } finally {
    await Promise.all(all.map((contender) => contender.stop()));
  }
  return { entrants, versions: [...new Set(versions)] };
}
