/**
 * Runs many simulated farms on all cores, and says which of them broke a promise; ends with 1 when one did.
 *
 * `npm run simulate -- [--seeds 10000] [--from 1] [--seconds N] [--mode safety|liveness|both]`; with `--seed N` one farm, with
 * everything that happened in it. With `--seconds` and without `--seeds` it runs until the time is over.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { InvariantError, UsageError } from "#protocol/errors.ts";
import type { SeedReport, SeedShare } from "#test/simulation/seed-worker.ts";
import { type Mode, simulate } from "#test/simulation/simulation.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string" },
    from: { type: "string", default: "1" },
    seconds: { type: "string" },
    mode: { type: "string", default: "both" },
    seed: { type: "string" },
  },
});

const modes: readonly string[] = ["safety", "liveness", "both"] satisfies readonly Mode[];
const defaultSeeds = 10_000;
const reportMs = 10_000;
/** Broken farms that are told of one by one. */
const toldMax = 10;

const line = (text: string) => process.stdout.write(`${text}\n`);
const mode = modeNamed(values.mode);
const brokenCount =
  values.seed === undefined ? await runMany(number("from", values.from)) : await replay(number("seed", values.seed));
if (brokenCount > 0) process.exitCode = 1;

async function replay(seed: number): Promise<number> {
  const { trace, violations } = await simulate(seed, { mode });
  line([...trace, ...violations.map((violation) => `seed ${seed} broke ${violation}`)].join("\n"));
  return violations.length;
}

async function runMany(first: number): Promise<number> {
  const startedAt = Date.now();
  const until =
    values.seconds === undefined ? Number.MAX_SAFE_INTEGER : startedAt + number("seconds", values.seconds) * 1_000;
  const openEnd = values.seconds === undefined ? defaultSeeds : Number.MAX_SAFE_INTEGER - first;
  const seeds = values.seeds === undefined ? openEnd : number("seeds", values.seeds);
  const cores = Math.min(availableParallelism(), seeds);
  const totals = { seeds: 0, broken: 0, sessions: 0, simulatedMs: 0 };
  let reportAt = startedAt + reportMs;
  const take = (report: SeedReport) => {
    totals.seeds += report.seeds;
    totals.sessions += report.sessions;
    totals.simulatedMs += report.simulatedMs;
    for (const { seed, violations } of report.broken) {
      totals.broken += 1;
      if (totals.broken > toldMax) continue;
      line(`seed ${seed} broke ${violations.join("; ")}`);
      line(`  npm run simulate -- --seed ${seed} --mode ${mode}`);
    }
    if (Date.now() < reportAt) return;
    reportAt += reportMs;
    line(`${totals.seeds} seeds, ${totals.broken} broken`);
  };
  await Promise.all(
    Array.from({ length: cores }, async (_, index) => {
      const share: SeedShare = { first: first + index, last: first + seeds - 1, step: cores, mode, until };
      const worker = fork(new URL("seed-worker.ts", import.meta.url), [JSON.stringify(share)]);
      worker.on("message", (report) => take(report as SeedReport));
      const [code] = (await once(worker, "exit")) as [number | null];
      if (code !== 0) throw new InvariantError("worker-died", `a worker ended with ${code ?? "a signal"}`);
    }),
  );
  const ranSeconds = (Date.now() - startedAt) / 1_000;
  line(
    `${totals.seeds} seeds from ${first} on (${mode}), ${totals.broken} broken, ${totals.sessions} flash sessions, ` +
      `${Math.round(totals.simulatedMs / 3_600_000)} simulated hours in ${ranSeconds.toFixed(1)} s: ` +
      `${Math.round(totals.seeds / ranSeconds)} seeds/s on ${cores} cores`,
  );
  return totals.broken;
}

function modeNamed(text: string): Mode {
  if (!modes.includes(text)) throw new UsageError("no-such-mode", `--mode is one of ${modes.join(", ")}, not ${text}`);
  return text as Mode;
}

function number(option: string, text: string): number {
  const found = Number(text);
  if (!Number.isInteger(found) || found < 1)
    throw new UsageError("not-a-number", `--${option} is a whole number from 1 on, not ${text}`);
  return found;
}
