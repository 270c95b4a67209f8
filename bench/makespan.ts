/**
 * `npm run bench:makespan`: how well a farm of several machines is used, next to simpler rules. Prints tables; there is no pass or
 * fail. README.md says what is measured and what is not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lowerBoundMs } from "#bench/makespan/lower-bound.ts";
import { runReally } from "#bench/makespan/real-run.ts";
import { type Comparison, type Row, table } from "#bench/makespan/report.ts";
import { type RuleName, ruleNames, rules } from "#bench/makespan/rules.ts";
import { type RunResult, runVirtually } from "#bench/makespan/virtual-run.ts";
import { makeWorkload, type Scenario, type Workload } from "#bench/makespan/workload.ts";
import { findServer, numberFrom, printHead, progress, runProgram } from "#bench/program.ts";

const usage = `node bench/makespan.ts [--quick] [--pure] [--seeds N] [--seed N] [--unknown]
  --quick    fewer seeds, and two real runs instead of sixteen, in less than 60 s
  --pure     virtual time only
  --seeds N  workloads of each scenario in virtual time
  --seed N   the first of them; the real runs have this one
  --unknown  virtual time: nothing has been learned of the durations yet`;

interface Plan {
  readonly isQuick: boolean;
  readonly isPure: boolean;
  readonly isKnown: boolean;
  readonly seeds: number;
  readonly seed: number;
}

const cacheKinds = ["none", "warm"] as const;
const mediaKinds = ["wifi", "mixed"] as const;
/** As many upload agents as servers, and one and four beside four servers. */
const machines = [
  [1, 1],
  [2, 2],
  [4, 4],
  [4, 1],
] as const;

const scenarios: readonly Scenario[] = cacheKinds.flatMap((caches) =>
  mediaKinds.flatMap((media) => machines.map(([servers, uploaders]) => ({ caches, media, servers, uploaders }))),
);

/** A farm that is warm has little to do: at the larger scale the messages would take longer than the builds. */
function scaleOf({ caches, media }: Scenario, { isQuick }: Plan): number {
  if (caches === "none" || media === "mixed") return 200;
  return isQuick ? 50 : 20;
}

const quickScenarios: readonly Scenario[] = [
  { caches: "none", media: "mixed", servers: 4, uploaders: 4 },
  { caches: "warm", media: "wifi", servers: 4, uploaders: 4 },
];

function realScenarios({ isQuick }: Plan): readonly Scenario[] {
  return isQuick ? quickScenarios : scenarios;
}

/** @param run of one rule; all of them have ended, and left nothing behind, when one has thrown */
async function compared(
  workload: Workload,
  run: (rule: RuleName) => RunResult | Promise<RunResult>,
): Promise<Comparison> {
  const settled = await Promise.allSettled(ruleNames.map(async (rule) => [rule, await run(rule)] as const));
  const runs = settled.map((one) => {
    if (one.status === "rejected") throw one.reason;
    return one.value;
  });
  return {
    seed: workload.seed,
    boundMs: lowerBoundMs(workload),
    runs: Object.fromEntries(runs) as Record<RuleName, RunResult>,
  };
}

async function virtualRows(
  among: readonly Scenario[],
  { seeds, seed, isKnown }: Plan,
  signal: AbortSignal,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const scenario of among) {
    const comparisons: Comparison[] = [];
    for (let number = seed; number < seed + seeds; number += 1) {
      signal.throwIfAborted();
      const workload = makeWorkload(number, scenario);
      comparisons.push(await compared(workload, (rule) => runVirtually(workload, rules[rule], isKnown)));
    }
    rows.push({ scenario, comparisons });
  }
  return rows;
}

/** The rules run beside each other, each on a farm of its own, so that what else the machine does falls on all. */
async function realRows(plan: Plan, binary: string, signal: AbortSignal): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const scenario of realScenarios(plan)) {
    const { caches, media, servers, uploaders } = scenario;
    const scale = scaleOf(scenario, plan);
    progress(`real, 1:${scale}: trees ${caches}, ${media}, ${servers} servers, ${uploaders} upload agents`);
    const workload = makeWorkload(plan.seed, scenario);
    const folder = await mkdtemp(join(tmpdir(), "flashyard-makespan-"));
    try {
      const run = (rule: RuleName) =>
        runReally({ workload, rule: rules[rule], scale, binary, folder: join(folder, rule), signal });
      rows.push({ scenario, comparisons: [await compared(workload, run)] });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  return rows;
}

const legend = "makespan ÷ lower bound (mean), ≤ worst seed, mean completion ÷ FIFO's, cold builds";

async function main(plan: Plan, signal: AbortSignal): Promise<void> {
  printHead("makespan");
  const { seed, seeds } = plan;
  console.log(`\n== virtual time, the core alone; seeds ${seed} to ${seed + seeds - 1}; ${legend} ==`);
  console.log(table(await virtualRows(scenarios, plan, signal)));
  if (!plan.isPure) {
    const server = await findServer(signal);
    const rows = await realRows(plan, server.path, signal);
    console.log(
      `\n== real time, scaled: coordinator, agents and nats-server ${server.version}; seed ${seed}; ${legend} ==`,
    );
    console.log(table(rows));
    console.log(
      `\n== the same workloads in virtual time: what is more above is messages, commits and a busy machine ==`,
    );
    console.log(table(await virtualRows(realScenarios(plan), { ...plan, seeds: 1, isKnown: true }, signal)));
  }
}

const flag = { type: "boolean" } as const;
const text = { type: "string" } as const;
await runProgram(
  usage,
  { quick: flag, pure: flag, unknown: flag, seeds: text, seed: text },
  ({ quick: isQuick = false, pure: isPure = false, unknown = false, ...given }, signal) =>
    main(
      {
        isQuick,
        isPure,
        isKnown: !unknown,
        seeds: numberFrom(usage, "seeds", given.seeds, isQuick ? 5 : 100),
        seed: numberFrom(usage, "seed", given.seed, 1),
      },
      signal,
    ),
);
