/** The figures of the bulk as tables. Pure. */
import type { Stage } from "#bench/bulk/agent-plan.ts";
import { compileAgents, compileSlots, uploadSlots } from "#bench/bulk/bulk-farm.ts";
import { bulkSizes, type NoOpRun } from "#bench/bulk/no-op-run.ts";
import {
  artifactBytes,
  buildMs,
  type DeviceBundle,
  devices,
  idealMakespanMs,
  type TransferRun,
  uploadMs,
} from "#bench/bulk/transfer-run.ts";
import { median, percentile } from "#bench/percentile.ts";

/** Of esphome-device-builder 1.26.0 on three receivers, with a real bundle and 24 MB of artifacts each. */
const peerRatio = 2.14;

const stageNames: Readonly<Record<Stage, string>> = {
  "bundle-in": "bundle out of the store",
  "image-hashed": "artifact hashed",
  "image-out": "artifact into the store",
  "image-in": "artifact out of the store",
};

export function transferTable(runs: readonly TransferRun[], bundles: readonly DeviceBundle[]): string {
  const bundleBytes = Math.max(...bundles.map(({ bytes }) => bytes.length));
  const ratios = runs.map(({ makespanMs }) => makespanMs / idealMakespanMs);
  const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
  return [
    `== ${devices} devices: build ${buildMs / 1000} s, upload ${uploadMs / 1000} s ==`,
    `${compileAgents} compile agents with ${compileSlots} slot, an upload agent with ${uploadSlots}; a bundle of up to ${bundleBytes} bytes and ` +
      `${artifactBytes / 1024 ** 2} MiB of artifacts each`,
    `  answered after  ${runs.map(({ answeredMs }) => `${answeredMs.toFixed(0)} ms`).join(", ")}`,
    `  makespan        ${runs.map(({ makespanMs }) => `${(makespanMs / 1000).toFixed(2)} s`).join(", ")}`,
    `  ideal           ${(idealMakespanMs / 1000).toFixed(2)} s`,
    `  makespan ÷ ideal  ${median(ratios).toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)}); the closest peer ${peerRatio}`,
    ...(Object.keys(stageNames) as Stage[]).map((stage) => stageLine(runs, stage)),
  ].join("\n");
}

function stageLine(runs: readonly TransferRun[], stage: Stage): string {
  const all = runs.flatMap(({ stageMs }) => stageMs[stage]);
  return `  ${stageNames[stage]}: ${percentile(all, 50).toFixed(0)} ms, ${Math.max(...all).toFixed(0)} ms at most`;
}

/** Medians over the rounds. Says loudly when a chain is missing. */
export function noOpTable(rounds: readonly (readonly NoOpRun[])[]): string {
  const lines = [
    "== no-op chains, all asked for at once ==",
    ["chains", "answered (ms)", "low–high", "chains/s", "low–high", `÷ ${bulkSizes[0]}`, "in the history"]
      .map(cell)
      .join(""),
  ];
  const perSecond = (size: number) => runsOf(rounds, size).map(({ chainsPerSecond }) => chainsPerSecond);
  const first = median(perSecond(bulkSizes[0]));
  const missing: string[] = [];
  for (const size of bulkSizes) {
    const runs = runsOf(rounds, size);
    const answered = runs.map(({ answeredMs }) => answeredMs);
    const speeds = perSecond(size);
    const kept = Math.min(...runs.map(({ inHistory }) => inHistory));
    const figures = [
      String(size),
      median(answered).toFixed(0),
      range(answered),
      median(speeds).toFixed(0),
      range(speeds),
      (median(speeds) / first).toFixed(2),
      kept === size ? "all" : `${kept} ONLY`,
    ];
    lines.push(figures.map(cell).join(""));
    if (kept < size) missing.push(`!!! THE HISTORY IS NOT COMPLETE: ${size - kept} of ${size} chains are missing !!!`);
  }
  return [...lines, ...missing].join("\n");
}

function runsOf(rounds: readonly (readonly NoOpRun[])[], size: number): readonly NoOpRun[] {
  return rounds.flatMap((runs) => runs.filter(({ chains }) => chains === size));
}

function range(values: readonly number[]): string {
  return `${Math.min(...values).toFixed(0)}–${Math.max(...values).toFixed(0)}`;
}

function cell(text: string): string {
  return text.padStart(16);
}
