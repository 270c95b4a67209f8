/**
 * Rollouts: installs that are flashed in waves.
 *
 * 1. A wave is flashed when all chains of the waves before it have ended: with the device's word that it still runs the build, where a
 *    device can be asked. Builds wait for no wave.
 * 2. With more failed devices than are allowed, and while a person has paused it, no flash of a rollout begins. One that has begun ends.
 * 3. A chain that was cancelled, by a person or by a newer request for its configuration, is left out and counts as no failure.
 * 4. Its chains stay in the live records until all have ended, and go to the history together: they are all there is of a rollout.
 */
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { describeFailure } from "#protocol/failure.ts";
import { isTerminal } from "#protocol/job.ts";
import type { RolloutState, RolloutView, WaveView } from "#protocol/rollout.ts";
import { cancelChain } from "#coordinator/core/cancel.ts";
import { settleDependent } from "#coordinator/core/chains.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Step } from "#coordinator/core/step.ts";
import { standingOf } from "#coordinator/core/waves.ts";

/** Carries out what a person has asked of a rollout. @returns its chains as they are then; none where there is no such rollout */
export function changeRollout(
  step: Step,
  { id, action }: Extract<FarmEvent, { kind: "rollout-asked" }>,
): readonly Chain[] {
  const chains = step.draft.rolloutOf(id);
  const { failed } = standingOf(chains);
  step.isAtomic ||= chains.length > 1;
  for (const chain of chains) {
    const { rollout } = chain;
    // What has ended stays as it is, and before whatever took its place in the order of writing.
    if (rollout === undefined || isFinished(chain)) continue;
    const { isPaused: _isPaused, ...part } = rollout;
    switch (action) {
      case "pause":
        step.draft.setChain({ ...chain, rollout: { ...part, isPaused: true } });
        break;
      case "resume": {
        // As many as have failed may, or as many as might from the start.
        const failuresMax = Math.max(part.failuresMax, failed.length);
        step.draft.setChain({ ...chain, rollout: { ...part, failuresMax } });
        break;
      }
      case "abort":
        cancelChain(step, chain, "rollout-aborted");
        break;
    }
  }
  return step.draft.rolloutOf(id);
}

/** Opens the next wave of each rollout that this step has moved, and lets go of those that are over. */
export function settleRollouts(step: Step): void {
  const moved = new Set<ChainId>();
  for (const chain of step.draft.changedChains().values())
    if (chain?.rollout !== undefined) moved.add(chain.rollout.id);
  for (const id of moved) {
    for (const chain of step.draft.rolloutOf(id)) settleDependent(step, chain);
    const chains = step.draft.rolloutOf(id);
    // Invariant 4.
    if (chains.every(isFinished)) for (const chain of chains) step.effects.push({ kind: "archive", chain: chain.id });
  }
}

/** @param chains all of one rollout */
export function rolloutView(chains: readonly Chain[]): RolloutView | undefined {
  const [first] = chains;
  if (first?.rollout === undefined) return undefined;
  const { state, failed, failuresMax } = standingOf(chains);
  const waves = new Map<number, Chain[]>();
  for (const chain of chains) {
    const wave = chain.rollout?.wave ?? 0;
    waves.set(wave, [...(waves.get(wave) ?? []), chain]);
  }
  return {
    id: first.rollout.id,
    state: state satisfies RolloutState,
    createdAt: first.createdAt,
    failuresMax,
    waves: [...waves].sort(([a], [b]) => a - b).map(([wave, members]) => waveView(wave, members)),
    failed: failed.map((chain) => ({ configuration: chain.configuration, chain: chain.id, reason: reasonOf(chain) })),
  };
}

function waveView(wave: number, chains: readonly Chain[]): WaveView {
  const view = { wave, building: 0, waiting: 0, flashing: 0, confirming: 0, done: 0, failed: 0, cancelled: 0 };
  for (const chain of chains) view[stageOf(chain)] += 1;
  return view;
}

function stageOf(chain: Chain): Exclude<keyof WaveView, "wave"> {
  const { compile, upload, confirm } = chain;
  const states = jobsOf(chain).map((job) => job.state);
  if (states.some((state) => state === "failed" || state === "unknown")) return "failed";
  if (upload?.state === "succeeded") return confirm === undefined || isTerminal(confirm.state) ? "done" : "confirming";
  if (isFinished(chain)) return "cancelled";
  if (compile !== undefined && !isTerminal(compile.state)) return "building";
  return upload?.state === "held" || upload?.state === "queued" ? "waiting" : "flashing";
}

function reasonOf(chain: Chain): string {
  for (const { outcome } of jobsOf(chain)) if (outcome?.kind === "failed") return describeFailure(outcome.failure);
  return "it is not known why";
}
