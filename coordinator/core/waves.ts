/** How a rollout stands, from its chains alone (`rollouts.ts`). */
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import type { RolloutState } from "#protocol/rollout.ts";

export interface Standing {
  readonly state: RolloutState;
  /** The first wave that has not ended; what is behind it is not flashed. */
  readonly openWave: number;
  readonly failuresMax: number;
  readonly failed: readonly Chain[];
}

/** @param chains all of one rollout */
export function standingOf(chains: readonly Chain[]): Standing {
  const failed = chains.filter(hasFailed);
  const failuresMax = Math.max(0, ...chains.map(({ rollout }) => rollout?.failuresMax ?? 0));
  const unfinished = chains.filter((chain) => !isFinished(chain));
  const openWave = Math.min(...unfinished.map(({ rollout }) => rollout?.wave ?? 0));
  return { state: stateOf(unfinished, failed.length > failuresMax), openWave, failuresMax, failed };
}

function stateOf(unfinished: readonly Chain[], isBeyond: boolean): RolloutState {
  if (unfinished.length === 0) return "ended";
  if (unfinished.some(({ rollout }) => rollout?.isPaused === true)) return "paused";
  return isBeyond ? "stopped" : "going";
}

function hasFailed(chain: Chain): boolean {
  return jobsOf(chain).some(({ state }) => state === "failed" || state === "unknown");
}

/** Why the flash of a chain may not begin yet, as the end of a sentence about it; undefined when its rollout lets it, or it has none. */
export function heldBack({ rollout }: Chain, standing: Standing | undefined): string | undefined {
  if (rollout === undefined || standing === undefined) return undefined;
  const { state, openWave, failed, failuresMax } = standing;
  if (state === "paused") return `rollout ${rollout.id} is paused: \`flashyard rollout resume ${rollout.id}\``;
  if (state === "stopped") {
    return `rollout ${rollout.id} has stopped: ${failed.length} failed, ${failuresMax} may; \`flashyard rollout resume ${rollout.id}\` goes on`;
  }
  return rollout.wave > openWave ? `it is in wave ${rollout.wave}, and wave ${openWave} has not ended` : undefined;
}
