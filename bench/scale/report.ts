/** The figures of a large farm as tables. Pure. */
import type { Decisions } from "#bench/scale/decisions.ts";
import { agents, type Load, queuedAtFirst, type Watched } from "#bench/scale/load.ts";
import type { StartUp } from "#bench/scale/start-up.ts";
import { median, percentile } from "#bench/percentile.ts";

export function startUpTable(
  starts: readonly { readonly history: number; readonly all: readonly StartUp[] }[],
): string {
  const lines = [
    "== start of the coordinator's process until `coordinator ready` (aim < 1000 ms) ==",
    ["in the history", "ready (ms)", "low–high", "resident (MB)"].map(cell).join(""),
  ];
  for (const { history, all } of starts) {
    const ready = all.map(({ readyMs }) => readyMs);
    const resident = median(all.map(({ residentMb }) => residentMb));
    lines.push([String(history), whole(median(ready)), range(ready), whole(resident)].map(cell).join(""));
  }
  return lines.join("\n");
}

export function decisionsTable({ ms, queued, running }: Decisions): string {
  const lines = [
    `== one decision with ${agents} agents, ${queued} queued and ${running} running chains (ms; aim 5 at p99) ==`,
    row("", ["times", "p50", "p99", "most"]),
  ];
  for (const [kind, times] of ms) {
    const figures = [percentile(times, 50), percentile(times, 99), Math.max(...times)];
    lines.push(row(kind, [String(times.length), ...figures.map((value) => value.toFixed(2))]));
  }
  return lines.join("\n");
}

function row(kind: string, figures: readonly string[]): string {
  return `  ${kind.padEnd(20)}${figures.map(cell).join("")}`;
}

export function loadTable(load: Load, history: number): string {
  const { presentMs, answeredMs, busy, endedMs, restart, resting } = load;
  const lines = [
    `== the coordinator's process with ${agents} agents and ${history} chains in the history ==`,
    `  all agents known after ${whole(presentMs)} ms; ${queuedAtFirst} chains in three requests answered after ${whole(answeredMs)} ms`,
    watchedLine("at work", busy),
    `  told to end amid all that: gone after ${whole(endedMs)} ms; started anew: ready after ${whole(restart.readyMs)} ms, ${whole(restart.residentMb)} MB`,
  ];
  if (resting !== undefined) lines.push(watchedLine("over a round of the history's keeper", resting));
  return lines.join("\n");
}

function watchedLine(when: string, watched: Watched): string {
  const { residentMb, peakMb, processorShare, statusMs, unanswered, running, live } = watched;
  return [
    `  ${when}, beginning with ${running} jobs running and ${live} chains live:`,
    `    resident ${whole(residentMb)} MB (peak since its start ${whole(peakMb)} MB), ${whole(processorShare * 100)} % of a processor`,
    `    a question for the status is answered after ${percentile(statusMs, 50).toFixed(1)} ms at p50, ${whole(percentile(statusMs, 99))} ms at p99, ${whole(Math.max(...statusMs))} ms at most` +
      (unanswered === 0 ? "" : `; ${unanswered} OF ${statusMs.length} WERE NOT ANSWERED`),
  ].join("\n");
}

function range(values: readonly number[]): string {
  return `${whole(Math.min(...values))}–${whole(Math.max(...values))}`;
}

function whole(value: number): string {
  return value.toFixed(0);
}

function cell(text: string): string {
  return text.padStart(16);
}
