/**
 * What no rule can beat, in ms: the largest of
 *
 * - all builds on all machines, and the shortest flash after the last of them. Each machine takes its own time for a build, by its
 *   tree; for any weights of the machines that sum to one, `Σ over builds of min over machines of weight × time` is a bound
 *   (the dual of dividing builds freely among machines), and the best weights are looked for;
 * - of any `machines × k + 1` builds one machine makes `k + 1`: those of the longest, and the shortest flash after them;
 * - for each segment of a scarce medium, and for all flashes that one upload agent must make, their airtime (÷ its slots) after the
 *   first of their builds;
 * - all flashes ÷ all upload slots, after the first build;
 * - the longest chain.
 */
import { isScarce, mediumName } from "#protocol/job.ts";
import { compileSlots, type Device, uploadSlots, type Workload } from "#bench/makespan/workload.ts";

export function lowerBoundMs({ devices, builders, uploaders }: Workload): number {
  const bounds = [
    buildsMs(devices, builders) + least(devices.map(({ flashMs }) => flashMs)),
    crowdMs(devices.map(fastestMs), builders.length * compileSlots) + least(devices.map(({ flashMs }) => flashMs)),
    streamMs(devices, uploaders.length * uploadSlots),
    ...groupsBy(devices, ({ medium }) => (isScarce(medium) ? mediumName(medium) : undefined)).map((group) =>
      streamMs(group, 1),
    ),
    ...groupsBy(devices, ({ on }) => on).map((group) => streamMs(group, uploadSlots)),
    ...devices.map((device) => fastestMs(device) + device.flashMs),
  ];
  return Math.max(...bounds);
}

function streamMs(devices: readonly Device[], slots: number): number {
  return least(devices.map(fastestMs)) + sum(devices.map(({ flashMs }) => flashMs)) / slots;
}

function fastestMs({ warmAt, warmMs, coldMs }: Device): number {
  return warmAt.length > 0 ? warmMs : coldMs;
}

/** Weights are moved towards the machine that has most to do, by smaller and smaller steps. */
function buildsMs(devices: readonly Device[], builders: Workload["builders"]): number {
  let weights = builders.map(() => 1 / builders.length);
  let best = 0;
  for (let round = 1; round <= 300; round += 1) {
    const loads = builders.map(() => 0);
    let bound = 0;
    for (const { warmAt, warmMs, coldMs } of devices) {
      const times = builders.map((builder) => (warmAt.includes(builder) ? warmMs : coldMs));
      const costs = times.map((time, index) => time * (weights[index] ?? 0));
      const cost = least(costs);
      const cheapest = costs.flatMap((one, index) => (one <= cost ? [index] : []));
      for (const index of cheapest) loads[index] = (loads[index] ?? 0) + (times[index] ?? 0) / cheapest.length;
      bound += cost;
    }
    best = Math.max(best, bound);
    const mean = sum(loads) / loads.length;
    const moved = weights.map(
      (weight, index) => weight * Math.exp((0.5 / Math.sqrt(round)) * ((loads[index] ?? 0) / mean - 1)),
    );
    const total = sum(moved);
    weights = moved.map((weight) => weight / total);
  }
  return best / compileSlots;
}

function crowdMs(times: readonly number[], machines: number): number {
  const longestFirst = times.toSorted((a, b) => b - a);
  let most = 0;
  for (let count = 1; machines * count < longestFirst.length; count += 1) {
    most = Math.max(most, sum(longestFirst.slice(0, machines * count + 1).slice(-count - 1)));
  }
  return most;
}

function groupsBy<T>(all: readonly T[], keyOf: (one: T) => string | undefined): readonly (readonly T[])[] {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const key = keyOf(one);
    if (key !== undefined) groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()];
}

const least = (numbers: readonly number[]): number => Math.min(...numbers);
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
