/** Which chains a retry is about. */
import { type Chain, configurationsOf, isSettled, jobOf, jobsOf } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { jobRef, type JobName } from "#protocol/ids.ts";
import { isTerminal, type Job } from "#protocol/job.ts";
import { endedChains, hasFailed } from "#cli/ended-chains.ts";
import type { Farm } from "#cli/farm.ts";
import { nameOf } from "#cli/job-sentence.ts";
import { liveChains } from "#cli/live-chains.ts";
import { type Refusal, refusal } from "#cli/refusal.ts";

/** A failed chain has up to 20 kB, an answer of the coordinator 8 MB. */
const failedMax = 300;
/** A clean makes a chain for each agent, and the newest build is looked for behind them. */
const newestMax = 50;

/** A chain to run again, by the name under which the user knows it. */
export interface Retried {
  readonly reference: string;
  readonly chain: Chain;
}

export interface RetryChoice {
  readonly chosen: readonly Retried[];
  readonly refused: readonly Refusal[];
}

/** The chains that are named; of a configuration the newest. Two names of one chain are one. */
export async function chooseNamed(farm: Farm, references: readonly string[]): Promise<RetryChoice> {
  const chosen = new Map<string, Retried>();
  const refused: Refusal[] = [];
  for (const reference of references) {
    try {
      const { chain, job } = await farm.ask({ v: 1, kind: "resolve", reference }, "resolved");
      // One that is sent behind another of its configuration would take its place.
      const other = chosen.get(chain.configuration)?.chain.id ?? chain.id;
      const isSecond = other !== chain.id;
      const reason = isSecond ? `${other} is of the same configuration: name one of them` : reasonAgainst(chain, job);
      if (reason !== undefined) refused.push(refusal(reference, reason));
      else chosen.set(chain.configuration, { reference, chain });
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      refused.push(refusal(reference, error.message));
    }
  }
  return { chosen: [...chosen.values()], refused };
}

/** The newest build or flash of each configuration, where it failed or its outcome is not known. */
export async function chooseFailed(farm: Farm): Promise<RetryChoice> {
  const failed = await endedChains(farm, { isFailed: true, limit: failedMax });
  const names = new Set(failed.filter(({ clean }) => clean === undefined).map(({ configuration }) => configuration));
  const live = await liveChains(farm);
  const chains = new Map(live.map(({ chain }) => [chain.id, chain]));
  for (const configuration of names) {
    const ended = await endedChains(farm, { configuration, isFailed: false, limit: newestMax });
    for (const chain of ended) chains.set(chain.id, chain);
  }
  const chosen: Retried[] = [];
  const refused: Refusal[] = [];
  for (const chain of newestFailed([...chains.values()])) {
    const reason = reasonAgainst(chain, undefined);
    if (reason === undefined) chosen.push({ reference: chain.configuration, chain });
    else refused.push(refusal(chain.configuration, reason));
  }
  return { chosen, refused };
}

/** Pure. What takes trees away says nothing of what is on a device, so it hides no build and no flash. */
export function newestFailed(chains: readonly Chain[]): readonly Chain[] {
  const newest = new Map<string, Chain>();
  for (const chain of chains.filter(({ clean }) => clean === undefined)) {
    // A rename is the newest of both its names.
    for (const name of configurationsOf(chain)) {
      const other = newest.get(name);
      if (other === undefined || other.id < chain.id) newest.set(name, chain);
    }
  }
  const sorted = [...new Set(newest.values())].toSorted((a, b) => (a.configuration < b.configuration ? -1 : 1));
  return sorted.filter((chain) => isSettled(chain) && hasFailed(chain));
}

/** Pure. Why what is named is not run again; undefined when it is. */
export function reasonAgainst(chain: Chain, named: JobName | undefined): string | undefined {
  const job = named === undefined ? undefined : jobOf(chain, named);
  // A device that has not been asked again yet says nothing against its flash.
  const isOpen = ({ name, state }: Job) => name === "confirm" && !isTerminal(state);
  const jobs = job === undefined ? jobsOf(chain).filter((one) => !isOpen(one)) : [job];
  if (jobs.every(({ state }) => state === "succeeded")) {
    const what = job === undefined ? chain.id : jobRef(chain.id, job.name);
    return `${what} has succeeded: ${chain.clean === undefined ? "use install" : "ask for it anew"}`;
  }
  if (!isSettled(chain)) return `${chain.id} is still under way; \`flashyard explain ${chain.id}\` says how it stands`;
  if (chain.kind !== "rename") return undefined;
  const from = chain.renamedFrom === undefined ? "OLD" : nameOf(chain.renamedFrom);
  return `${chain.id} was a rename, which ends with a swap of files: run \`flashyard rename ${from}.yaml ${chain.configuration}\` once more`;
}
