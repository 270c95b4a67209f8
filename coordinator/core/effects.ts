/**
 * What the shell has to do after a commit. Effects other than answers follow from the records alone, so that a coordinator
 * that starts can do all of them again (`impliedEffects`); doing one twice is harmless.
 */
import type { AdminAnswer } from "#protocol/admin.ts";
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import type { AgentId, ChainId, JobName } from "#protocol/ids.ts";
import type { AskAnswer, PrefetchHint } from "#protocol/messages.ts";
import type { AnswerTo } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";

interface Attempt {
  readonly agent: AgentId;
  readonly chain: ChainId;
  readonly job: JobName;
  readonly attempt: number;
}

export type FarmEffect =
  /** Put the assigned job on the agent's lane; the message id is chain, job and attempt. */
  | ({ readonly kind: "dispatch" } & Attempt)
  /** Tell the agent to end an attempt. Lost orders are repeated when the agent's next statement still holds the job. */
  | ({ readonly kind: "stop"; readonly isForced?: boolean } & Attempt)
  /** Tell an agent what it may fetch while it works. Never repeated. */
  | { readonly kind: "prefetch"; readonly agent: AgentId; readonly hint: PrefetchHint }
  /** Copy the finished chain to the history, then say `chain-archived`. */
  | { readonly kind: "archive"; readonly chain: ChainId }
  | { readonly kind: "answer"; readonly to: AnswerTo; readonly body: AskAnswer | AdminAnswer };

/** Every effect that the records still imply; carried out at start and after the server was away. */
export function impliedEffects(farm: Farm): readonly FarmEffect[] {
  const effects: FarmEffect[] = [];
  const rollouts = new Set(
    [...farm.chains.values()].filter((chain) => !isFinished(chain)).map(({ rollout }) => rollout?.id),
  );
  const isOver = ({ rollout }: Chain) => rollout === undefined || !rollouts.has(rollout.id);
  for (const chain of farm.chains.values()) {
    if (isFinished(chain) && isOver(chain)) effects.push({ kind: "archive", chain: chain.id });
    for (const job of jobsOf(chain)) {
      if (job.assigned === undefined) continue;
      const attempt = { agent: job.assigned.agent, chain: chain.id, job: job.name, attempt: job.attempt };
      if (job.state === "dispatched") effects.push({ kind: "dispatch", ...attempt });
      if (job.state === "cancelling") effects.push({ kind: "stop", ...attempt });
    }
  }
  return effects;
}
