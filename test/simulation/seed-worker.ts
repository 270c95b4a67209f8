/** Runs its share of the seeds in a process of its own, and tells of them in batches. */
import { type Mode, simulate } from "#test/simulation/simulation.ts";

/** Every `step`th seed from `first` on, up to `last` and until the time is over. */
export interface SeedShare {
  readonly first: number;
  readonly last: number;
  readonly step: number;
  readonly mode: Mode;
  /** Wall clock, ms since 1970. */
  readonly until: number;
}

export interface SeedReport {
  readonly seeds: number;
  readonly simulatedMs: number;
  readonly sessions: number;
  readonly broken: readonly { readonly seed: number; readonly violations: readonly string[] }[];
}

const batch = 25;

async function run({ first, last, step, mode, until }: SeedShare): Promise<void> {
  let seed = first;
  while (seed <= last && Date.now() < until) {
    const report = { seeds: 0, simulatedMs: 0, sessions: 0, broken: [] as { seed: number; violations: string[] }[] };
    for (; report.seeds < batch && seed <= last; seed += step) {
      const { violations, ms, sessions } = await simulate(seed, { mode });
      report.seeds += 1;
      report.simulatedMs += ms;
      report.sessions += sessions;
      if (violations.length > 0) report.broken.push({ seed, violations: [...violations] });
    }
    process.send?.(report satisfies SeedReport);
  }
}

// The errors of the simulation are meant to happen, and nobody reads where.
Error.stackTraceLimit = 0;
await run(JSON.parse(process.argv[2] ?? "") as SeedShare);
