/** What the demo says at its end. Pure. */
import type { Chain } from "#protocol/chain.ts";
import type { DeviceReport } from "#protocol/job.ts";

export interface Row {
  readonly device: string;
  readonly builder: string;
  readonly buildMs: number;
  readonly flashMs: number;
  /** What the device itself said in the end; undefined when it did not answer. */
  readonly report: DeviceReport | undefined;
  /** Whether that is the build of its newest chain. */
  readonly isNewBuild: boolean;
}

/** A row of the table from a device's newest chain and its own word. */
export function rowOf(chain: Chain, report: DeviceReport | undefined): Row {
  const built = chain.compile?.outcome;
  const flashed = chain.upload?.outcome;
  const wanted = built?.kind === "built" ? built.manifest.esphome : undefined;
  return {
    device: chain.configuration,
    builder: chain.compile?.assigned?.agent ?? "had it",
    buildMs: built?.kind === "built" ? built.buildMs : 0,
    flashMs: flashed?.kind === "flashed" ? flashed.flashMs : 0,
    report,
    isNewBuild: report !== undefined && report.compilationTime === wanted?.buildTimeStr && report.name === wanted.name,
  };
}

export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.device,
    row.builder,
    seconds(row.buildMs),
    seconds(row.flashMs),
    row.report === undefined
      ? "does not answer"
      : `ESPHome ${row.report.esphomeVersion}, built ${row.report.compilationTime}`,
    row.isNewBuild ? "yes" : "NO",
  ]);
  const all = [["device", "builder", "build", "flash", "the device itself reports", "new build"], ...cells];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export interface Summary {
  /** From the first request to the last end. */
  readonly makespanMs: number;
  /** All builds and flashes one after another. */
  readonly sumMs: number;
  /** How long at least one build ran while at least one flash did. */
  readonly overlapMs: number;
  readonly mostBuildsAtOnce: number;
  /** Builds that the farm had already, of an earlier run. */
  readonly reused: number;
}

/** Figures from the records' own instants. */
export function summarise(chains: readonly Chain[]): Summary {
  const builds = chains.flatMap(({ compile }) => {
    // Behind its build an agent sends the images, and builds the next one meanwhile.
    const { outcome, startedAt } = compile ?? {};
    const isBuilt = outcome?.kind === "built" && startedAt !== undefined;
    return isBuilt ? spanOf({ startedAt, endedAt: startedAt + outcome.buildMs }) : spanOf(compile);
  });
  const flashes = chains.flatMap(({ upload }) => spanOf(upload));
  const all = [...builds, ...flashes];
  const instants = [...new Set(all.flatMap(({ from, to }) => [from, to]))].toSorted((a, b) => a - b);
  const count = (spans: readonly Span[], at: number) => spans.filter(({ from, to }) => from <= at && at < to).length;
  let overlapMs = 0;
  for (const [index, at] of instants.entries()) {
    const next = instants[index + 1] ?? at;
    if (count(builds, at) > 0 && count(flashes, at) > 0) overlapMs += next - at;
  }
  return {
    makespanMs: Math.max(...all.map(({ to }) => to)) - Math.min(...chains.map((chain) => chain.createdAt)),
    sumMs: all.reduce((sum, { from, to }) => sum + to - from, 0),
    overlapMs,
    mostBuildsAtOnce: Math.max(...instants.map((at) => count(builds, at))),
    reused: chains.filter(({ compile }) => compile?.outcome?.kind === "built" && compile.outcome.reusedFrom).length,
  };
}

interface Span {
  readonly from: number;
  readonly to: number;
}

function spanOf(
  job: { readonly startedAt?: number | undefined; readonly endedAt?: number | undefined } | undefined,
): Span[] {
  if (job?.startedAt === undefined || job.endedAt === undefined) return [];
  return [{ from: job.startedAt, to: job.endedAt }];
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
