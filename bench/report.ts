/** Figures of all rounds → the tables. Pure. */
import type { Contender } from "#bench/contender.ts";
import { median } from "#bench/percentile.ts";

/** One contender's figures of one round. */
export interface RoundFigures {
  readonly requestToCompile: LatencyFigures;
  readonly compileToUpload: LatencyFigures;
  /** Chains per second by number of slots. */
  readonly chainsPerSecond: ReadonlyMap<number, number>;
}

export interface LatencyFigures {
  readonly p50: number;
  readonly p99: number;
}

export interface Entrant {
  readonly contender: Pick<Contender, "name" | "family">;
  readonly rounds: readonly RoundFigures[];
}

/** One figure of each contender, and how it is shown and judged. */
interface Measure {
  readonly title: string;
  readonly unit: string;
  readonly isMoreBetter: boolean;
  readonly of: (round: RoundFigures) => number;
}

function measuresOf(slots: readonly number[]): readonly Measure[] {
  const latency = (title: string, of: (round: RoundFigures) => number): Measure => ({
    title,
    unit: "ms",
    isMoreBetter: false,
    of,
  });
  return [
    latency("request → compile handler starts, p50", (round) => round.requestToCompile.p50),
    latency("request → compile handler starts, p99", (round) => round.requestToCompile.p99),
    latency("compile done → upload handler starts, p50", (round) => round.compileToUpload.p50),
    latency("compile done → upload handler starts, p99", (round) => round.compileToUpload.p99),
    ...slots.map((count) => ({
      title: `chains per second, ${count} slot${count === 1 ? "" : "s"} a lane`,
      unit: "/s",
      isMoreBetter: true,
      of: (round: RoundFigures) => round.chainsPerSecond.get(count) ?? Number.NaN,
    })),
  ];
}

/** The table of one durability. Figures are medians over the rounds, with the lowest and highest round beside them. */
export function table(entrants: readonly Entrant[], slots: readonly number[]): string {
  const nameWidth = Math.max(...entrants.map(({ contender }) => contender.name.length)) + 2;
  const lines: string[] = [];
  for (const measure of measuresOf(slots)) {
    const rows = entrants.map(({ contender, rounds }) => {
      const values = rounds.map(measure.of);
      return { ...contender, figure: median(values), low: Math.min(...values), high: Math.max(...values) };
    });
    const bestOf = (family: Contender["family"]) => {
      const figures = rows.filter((row) => row.family === family).map((row) => row.figure);
      return measure.isMoreBetter ? Math.max(...figures) : Math.min(...figures);
    };
    const sense = measure.isMoreBetter ? "more is better" : "less is better";
    lines.push("", `${measure.title} (${measure.unit}, ${sense})`);
    lines.push(`  ${"".padEnd(nameWidth)}${["median", "low–high", "÷ raw JetStream", "÷ BullMQ"].map(cell).join("")}`);
    for (const row of rows) {
      const range = `${number(row.low)}–${number(row.high)}`;
      const ratios = [row.figure / bestOf("raw JetStream"), row.figure / bestOf("BullMQ")].map(ratio);
      lines.push(`  ${row.name.padEnd(nameWidth)}${[number(row.figure), range, ...ratios].map(cell).join("")}`);
    }
  }
  return lines.slice(1).join("\n");
}

function cell(text: string): string {
  return text.padStart(17);
}

/** Three significant digits are more than a shared machine can repeat. */
function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function ratio(value: number): string {
  return Number.isFinite(value) ? `${value.toFixed(2)}×` : "–";
}
