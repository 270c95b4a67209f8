/**
 * `npm run bench:dispatch`: what dispatching costs, next to what else one could take. Prints tables; there is no pass or fail.
 * README.md says what is measured and what is not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { onShutdown } from "#actor/shutdown.ts";
import { isFarmError, messageOf, UsageError } from "#protocol/errors.ts";
import { durabilities, type Durability } from "#bench/contender.ts";
import { contenders } from "#bench/contenders.ts";
import { table } from "#bench/report.ts";
import { compare, type Outcome, type Plan, slotCounts } from "#bench/rounds.ts";

const usage = `node bench/dispatch.ts [--quick] [--chains N] [--rounds N] [--seconds N]
  --quick      a first impression in less than 40 s
  --chains N   chains of one throughput run; a latency run has three tenths of them
  --rounds N   rounds; the figures are medians over them
  --seconds N  begin no round that would end later than this (one round is always made)`;

const plans = {
  usual: { chains: 1_000, rounds: 3, seconds: 170 },
  quick: { chains: 200, rounds: 2, seconds: 35 },
} as const satisfies Record<string, Plan>;

/** @throws UsageError */
function readPlan(args: readonly string[]): Plan | "help" {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = { quick: flag, help: flag, chains: text, rounds: text, seconds: text };
  let values;
  try {
    ({ values } = parseArgs({ args: [...args], options }));
  } catch (cause) {
    throw new UsageError("bad-arguments", `${messageOf(cause)}\n${usage}`, { cause });
  }
  if (values.help === true) return "help";
  const base = values.quick === true ? plans.quick : plans.usual;
  const count = (name: keyof Plan) => {
    const given = values[name];
    if (given === undefined) return base[name];
    if (/^[1-9]\d{0,5}$/.test(given)) return Number(given);
    throw new UsageError("bad-arguments", `--${name} takes a whole number from 1 to 999999, not ${given}\n${usage}`);
  };
  return { chains: count("chains"), rounds: count("rounds"), seconds: count("seconds") };
}

const meanings: Record<Durability, string> = {
  always: "on disk before the answer (nats sync_interval: always, Redis appendfsync always)",
  "1s": "on disk within about a second (nats sync_interval: 1s, Redis appendfsync everysec)",
};

/** Progress goes to standard error, the report to standard output. */
function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(signal: AbortSignal): Promise<void> {
  const plan = readPlan(process.argv.slice(2));
  if (plan === "help") {
    console.log(usage);
    return;
  }
  const all = contenders({ natsServer: process.env["FLASHYARD_NATS_SERVER"], onProgress: progress });
  const folder = await mkdtemp(join(tmpdir(), "flashyard-bench-"));
  const begunAt = performance.now();
  try {
    const outcomes: (Outcome & { durability: Durability })[] = [];
    for (const [index, durability] of durabilities.entries()) {
      const until = begunAt + (plan.seconds * 1000 * (index + 1)) / durabilities.length;
      outcomes.push({ durability, ...(await compare(all, durability, plan, { folder, signal, until, progress })) });
    }
    const [cpu] = cpus();
    const versions = outcomes[0]?.versions ?? [];
    console.log(`command: ${["node", "bench/dispatch.ts", ...process.argv.slice(2)].join(" ")}`);
    console.log(
      `machine: ${cpus().length} × ${cpu?.model ?? "unknown cpu"}, node ${process.versions.node}, ${versions.join(", ")}`,
    );
    for (const { durability, entrants } of outcomes) {
      const rounds = entrants[0]?.rounds.length ?? 0;
      console.log(`\n== ${meanings[durability]}; ${rounds} rounds, ${plan.chains} chains a throughput run ==`);
      console.log(table(entrants, slotCounts));
    }
    console.log(`\n${((performance.now() - begunAt) / 1000).toFixed(0)} s in all`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const interruption = new AbortController();
onShutdown(async () => interruption.abort());
try {
  await main(interruption.signal);
} catch (error) {
  console.error(isFarmError(error) ? error.message : error);
  process.exitCode = interruption.signal.aborted ? 130 : 1;
}
// A run that was given up may have left sockets that reconnect for ever.
process.exit();
