/** Divides installs into waves, by the options of the command. */
import type { ChainRequest } from "#protocol/admin.ts";
import { UsageError } from "#protocol/errors.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface RolloutOptions {
  /** Devices of the first wave. */
  readonly canary?: number;
  /** Devices of each further wave. */
  readonly wave?: number;
  readonly maxFailures?: number;
}

export interface RolloutPlan {
  readonly first: number;
  /** Absent: all the others at once. */
  readonly wave?: number | undefined;
  readonly failuresMax: number;
}

/** @returns undefined when everything is flashed at once. @throws UsageError `no-waves` */
export function rolloutPlanFrom({ canary, wave, maxFailures = 0 }: RolloutOptions): RolloutPlan | undefined {
  const first = canary ?? wave;
  if (first !== undefined) return { first, wave, failuresMax: maxFailures };
  if (maxFailures > 0) throw new UsageError("no-waves", "--max-failures goes with --canary or --wave");
  return undefined;
}

/** In the order of the files: the canaries first. */
export function inWaves(
  requests: readonly ChainRequest[],
  { first, wave, failuresMax }: RolloutPlan,
): readonly ChainRequest[] {
  const id = requests[0]?.id;
  if (id === undefined) return requests;
  const waveOf = (index: number) => {
    if (index < first) return 1;
    return wave === undefined ? 2 : 2 + Math.floor((index - first) / wave);
  };
  return requests.map((request, index) => ({ ...request, rollout: { id, wave: waveOf(index), failuresMax } }));
}

export function sayRollout({ terminal }: Session, requests: readonly ChainRequest[]): void {
  const part = requests.at(-1)?.rollout;
  if (part === undefined) return;
  const { id, wave, failuresMax } = part;
  const allowed = failuresMax === 0 ? "stops at the first failure" : `stops when more than ${failuresMax} fail`;
  terminal.note(
    `rollout ${id}: ${count(requests.length, "device")} in ${count(wave, "wave")}, ${allowed}; \`flashyard rollout status ${id}\``,
  );
}
