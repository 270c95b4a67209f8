/** What an agent that has just been given a build is likely to build next: it may fetch that bundle meanwhile. */
import type { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import type { Step } from "#coordinator/core/step.ts";

/** Looked at for each agent; further back the order changes before it is their turn. */
const lookAheadMax = 32;

/** Adds a hint for each agent that this step has given a build to. Nothing depends on one; different agents get different ones. */
export function hintNext(step: Step): void {
  const { draft, effects } = step;
  if (!draft.hasQueued("compile")) return;
  const hinted = new Set<ChainId>();
  const given = effects.flatMap((effect) =>
    effect.kind === "dispatch" && effect.job === "compile" ? [effect.agent] : [],
  );
  for (const id of given) {
    const agent = draft.agent(id);
    const next = agent === undefined ? undefined : nextFor(step, agent, hinted);
    if (next?.compile === undefined) continue;
    hinted.add(next.id);
    effects.push({ kind: "prefetch", agent: id, bundle: next.compile.spec.bundle });
  }
}

function nextFor({ draft }: Step, agent: AgentState, hinted: ReadonlySet<ChainId>): Chain | undefined {
  let looked = 0;
  for (const chain of draft.queued("compile")) {
    looked += 1;
    if (looked > lookAheadMax) return undefined;
    const { compile } = chain;
    if (compile?.state !== "queued" || hinted.has(chain.id)) continue;
    if (refusalOf(compile, agent, draft.knowledge) === undefined) return chain;
  }
  return undefined;
}
