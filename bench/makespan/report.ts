/** Figures of all runs → the tables. Pure. */
import { type RuleName, ruleNames } from "#bench/makespan/rules.ts";
import type { RunResult } from "#bench/makespan/virtual-run.ts";
import type { Scenario } from "#bench/makespan/workload.ts";

/** One workload under every rule. */
export interface Comparison {
  readonly seed: number;
  readonly boundMs: number;
  readonly runs: Readonly<Record<RuleName, RunResult>>;
}

export interface Row {
  readonly scenario: Scenario;
  readonly comparisons: readonly Comparison[];
}

/** For each rule: makespan ÷ lower bound (mean, worst seed), mean completion ÷ FIFO's, cold builds. */
export function table(rows: readonly Row[]): string {
  const head = ["trees", "media", "servers", "uploaders", ...ruleNames];
  const body = rows.map(({ scenario, comparisons }) => [
    scenario.caches,
    scenario.media,
    String(scenario.servers),
    String(scenario.uploaders),
    ...ruleNames.map((rule) => figuresOf(comparisons, rule)),
  ]);
  const widths = head.map((title, column) =>
    Math.max(...[head, ...body].map((cells) => cells[column]?.length ?? 0), title.length),
  );
  return [head, ...body]
    .map((cells) =>
      cells
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function figuresOf(comparisons: readonly Comparison[], rule: RuleName): string {
  const ratios = comparisons.map(({ boundMs, runs }) => runs[rule].makespanMs / boundMs);
  const ends = comparisons.map(({ runs }) => runs[rule].meanEndMs / runs.fifo.meanEndMs);
  const cold = mean(comparisons.map(({ runs }) => runs[rule].coldBuilds));
  return `${mean(ratios).toFixed(3)} ≤${Math.max(...ratios).toFixed(2)} ${mean(ends).toFixed(2)} ${cold.toFixed(0)}`;
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
}
