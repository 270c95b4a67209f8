/** The working surface of one transition: the draft, the effects so far, the instant; and the one door to a job's state. */
import { InvariantError } from "#protocol/errors.ts";
import { type Chain, isFinished, jobOf } from "#protocol/chain.ts";
import { type ChainId, type JobName, jobRef } from "#protocol/ids.ts";
import { isTerminal, type Job, nextStates, type UploadJob } from "#protocol/job.ts";
import type { FarmEffect } from "#coordinator/core/effects.ts";
import { Draft, type Farm } from "#coordinator/core/farm.ts";

/** The fields of a job that a step may set; `undefined` takes a field away. */
export type JobChange = {
  readonly [K in keyof Omit<UploadJob, "lane" | "name" | "spec">]?: UploadJob[K] | undefined;
};

export class Step {
  readonly draft: Draft;
  readonly effects: FarmEffect[] = [];
  readonly at: number;
  /** Set by an event whose records belong together: a bulk, or a request and the chains it supersedes. */
  isAtomic = false;

  constructor(farm: Farm, at: number) {
    this.draft = new Draft(farm);
    this.at = at;
  }

  /**
   * Changes a job of a chain. A terminal state stamps `endedAt`, and the last one of a chain asks for its archiving.
   * @throws InvariantError when the table of states does not have the step.
   */
  change(chainId: ChainId, name: JobName, change: JobChange): Chain {
    const chain = this.draft.chain(chainId);
    const job = chain === undefined ? undefined : jobOf(chain, name);
    if (chain === undefined || job === undefined) {
      throw new InvariantError("no-such-job", `no job ${jobRef(chainId, name)} to change`);
    }
    const next = change.state;
    if (next !== undefined && next !== job.state && !nextStates[job.state].includes(next)) {
      throw new InvariantError("illegal-step", `${jobRef(chainId, name)} cannot go from ${job.state} to ${next}`);
    }
    const endsNow = next !== undefined && isTerminal(next) && !isTerminal(job.state);
    const changed = { ...job, ...change, ...(endsNow ? { endedAt: this.at } : {}) };
    const bare = Object.fromEntries(
      Object.entries(changed).filter(([, value]) => value !== undefined),
    ) as unknown as Job;
    const record: Chain = { ...chain, [name]: bare };
    this.draft.setChain(record);
    // What belongs to a rollout goes when all of it has ended (`rollouts.ts`).
    if (endsNow && isFinished(record) && record.rollout === undefined)
      this.effects.push({ kind: "archive", chain: chainId });
    return record;
  }
}
