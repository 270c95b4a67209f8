/** Equal requests are built once: what is there already is used, what is being built is waited for (`reuse.ts`). */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { isTerminal } from "#protocol/job.ts";
import { isPastNoReturn } from "#coordinator/core/cancel.ts";
import { type Built, settleDependent } from "#coordinator/core/chains.ts";
import { gateOf } from "#coordinator/core/conflicts.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { buildKey, reusable } from "#coordinator/core/reuse.ts";
import type { Draft } from "#coordinator/core/farm.ts";
import type { Step } from "#coordinator/core/step.ts";

/** The outcome of an equal build that a request may have at once. */
export function equalBuild(step: Step, { build, route, isRebuild, configuration }: ChainRequest): Built | undefined {
  if (build === undefined || isRebuild === true) return undefined;
  const { isResetting, cleaning } = gateOf(step.draft.cleaning());
  if (isResetting || cleaning.has(configuration)) return undefined;
  const key = buildKey(build, route);
  const kept = reusable(step.draft.knowledge, key, step.at);
  if (kept !== undefined) return reused(kept);
  // What has just been built is among the live chains. One that a clean would not have cancelled may be older than that clean.
  for (const chain of step.draft.chainsBuilding(key)) {
    const outcome = chain.compile?.outcome;
    const isRecent = chain.upload !== undefined && !isTerminal(chain.upload.state) && !isPastNoReturn(chain.upload);
    if (isRecent && outcome?.kind === "built")
      return reused({ chain: outcome.reusedFrom ?? chain.id, manifest: outcome.manifest });
  }
  return undefined;
}

/** A build has succeeded: so have the equal ones that wait. */
export function settleEqualBuilds(step: Step, { id, compile }: Chain): void {
  if (compile?.outcome?.kind !== "built" || compile.outcome.reusedFrom !== undefined) return;
  const outcome = reused({ chain: id, manifest: compile.outcome.manifest });
  for (const other of step.draft.chainsBuilding(buildKey(compile.spec, compile.route))) {
    if (other.compile?.state !== "queued" || other.compile.isRebuild === true) continue;
    settleDependent(step, step.change(other.id, "compile", { state: "succeeded", outcome, notBeforeAt: undefined }));
  }
}

/** What other builds must be equal in to serve this one; undefined for one that was asked for anew, and where nothing is built. */
export function sharedKey({ compile }: Chain): string | undefined {
  return compile === undefined || compile.isRebuild === true ? undefined : buildKey(compile.spec, compile.route);
}

/** The chain whose build a queued one waits for, because it is equal and in hand. */
export function equalInHand(draft: Pick<Draft, "chainsBuilding">, { id }: Chain, key: string): ChainId | undefined {
  return draft
    .chainsBuilding(key)
    .find(({ id: other, compile }) => other !== id && isInHand(compile?.state) && compile?.state !== "cancelling")?.id;
}

function reused({ chain, manifest }: { readonly chain: ChainId; readonly manifest: Built["manifest"] }): Built {
  return { kind: "built", manifest, buildMs: 0, reusedFrom: chain };
}
