/** How long the coordinator's process takes from its start until it answers, and what it then uses. */
import { type Child, startCoordinator } from "#bench/child.ts";
import { figuresOf } from "#bench/scale/process-figures.ts";

/** The history of the benchmark is not pruned: it is what is measured. */
const env = { FLASHYARD_HISTORY_CHAINS: "1000000", FLASHYARD_HISTORY_DAYS: "3650" };

export interface StartUp {
  readonly readyMs: number;
  readonly residentMb: number;
}

export interface Started {
  readonly coordinator: Child;
  readonly startUp: StartUp;
}

/** @param profile a folder for V8's profile of the process, written when it ends */
export async function startMeasured(url: string, profile: string | undefined): Promise<Started> {
  const nodeArgs = profile === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", profile];
  const startedAt = performance.now();
  const coordinator = await startCoordinator(url, { env, nodeArgs });
  const readyMs = performance.now() - startedAt;
  return { coordinator, startUp: { readyMs, residentMb: (await figuresOf(coordinator.pid)).residentMb } };
}

/** Starts and ends it some times, one after another. */
export async function startUps(url: string, times: number, signal: AbortSignal): Promise<readonly StartUp[]> {
  const all: StartUp[] = [];
  for (let time = 0; time < times; time += 1) {
    signal.throwIfAborted();
    const { coordinator, startUp } = await startMeasured(url, undefined);
    all.push(startUp);
    await coordinator.stop();
  }
  return all;
}
