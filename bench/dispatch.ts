/**
 * `npm run bench:dispatch`: what dispatching costs, next to what else one could take. Prints tables; there is no pass or fail.
 * README.md says what is measured and what is not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "#actor/service.ts";
import { durabilities, type Durability } from "#bench/contender.ts";
import { contenders } from "#bench/contenders.ts";
import { findServer, numberFrom, printHead, progress, runProgram } from "#bench/program.ts";
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

const meanings: Record<Durability, string> = {
  always: "on disk before the answer (nats sync_interval: always, Redis appendfsync always)",
  "1s": "on disk within about a second (nats sync_interval: 1s, Redis appendfsync everysec)",
};

async function main(plan: Plan, signal: AbortSignal): Promise<void> {
  const all = contenders(once(() => findServer()));
  const folder = await mkdtemp(join(tmpdir(), "flashyard-bench-"));
  const begunAt = performance.now();
  try {
    const outcomes: (Outcome & { durability: Durability })[] = [];
    for (const [index, durability] of durabilities.entries()) {
      const until = begunAt + (plan.seconds * 1000 * (index + 1)) / durabilities.length;
      outcomes.push({ durability, ...(await compare(all, durability, plan, { folder, signal, until, progress })) });
    }
    printHead("dispatch", ...(outcomes[0]?.versions ?? []));
    for (const { durability, entrants } of outcomes) {
      const rounds = entrants[0]?.rounds.length ?? 0;
      console.log(`\n== ${meanings[durability]}; ${rounds} rounds, ${plan.chains} chains a throughput run ==`);
      console.log(table(entrants, slotCounts));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const text = { type: "string" } as const;
const options = { quick: { type: "boolean" }, chains: text, rounds: text, seconds: text } as const;
await runProgram(usage, options, ({ quick = false, ...given }, signal) => {
  const base = plans[quick ? "quick" : "usual"];
  const count = (name: keyof Plan) => numberFrom(usage, name, given[name], base[name]);
  return main({ chains: count("chains"), rounds: count("rounds"), seconds: count("seconds") }, signal);
});
