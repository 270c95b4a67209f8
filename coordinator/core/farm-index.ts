/**
 * What a step looks up instead of going through all chains: a farm with thousands of queued chains takes a claim or a report as
 * fast as an empty one.
 *
 * 1. An index says of a farm's chains what a scan of them would say, and nothing else.
 * 2. It belongs to one value of the farm: a step takes it along to the next one, and whoever looks at the former value again
 *    builds another from its chains.
 */
import { type Chain, jobsOf } from "#protocol/chain.ts";
import type { ChainId, Configuration } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { isInHand, isTaking } from "#coordinator/core/in-hand.ts";

type Chains = ReadonlyMap<ChainId, Chain>;

const indexes = new WeakMap<Chains, FarmIndex>();

export class FarmIndex {
  /** Chains with a queued job of the lane, by id, which is the order in which they were asked for. */
  readonly queued: Readonly<Record<Lane, ChainId[]>> = { compile: [], upload: [] };
  /** Chains of which a job is in hand, or a probe waits: those that take devices, trees and slots. */
  readonly taking = new Set<ChainId>();
  /** Chains with a job that has been in hand and is no longer. */
  readonly freeing = new Set<ChainId>();
  readonly #ofConfiguration = new Map<Configuration, Set<ChainId>>();

  /** The index of these chains; theirs no longer (invariant 2). */
  static take(chains: Chains): FarmIndex {
    const kept = indexes.get(chains);
    indexes.delete(chains);
    if (kept !== undefined) return kept;
    const index = new FarmIndex();
    for (const chain of chains.values()) index.replace(undefined, chain);
    return index;
  }

  giveTo(chains: Chains): void {
    indexes.set(chains, this);
  }

  ofConfiguration(configuration: Configuration): readonly ChainId[] {
    return [...(this.#ofConfiguration.get(configuration) ?? [])].sort();
  }

  /** One chain instead of another of the same id; undefined: there was none, or there is none any more. */
  replace(before: Chain | undefined, after: Chain | undefined): void {
    const id = (after ?? before)?.id;
    if (id === undefined) return;
    for (const lane of ["compile", "upload"] as const) {
      const was = before?.[lane]?.state === "queued";
      const is = after?.[lane]?.state === "queued";
      if (was !== is) toggle(this.queued[lane], id, is);
    }
    mark(this.taking, id, after !== undefined && isTaking(after));
    mark(this.freeing, id, after !== undefined && isFreeing(after));
    if (before !== undefined && before.configuration !== after?.configuration) this.#leave(before);
    if (after !== undefined && before?.configuration !== after.configuration) this.#join(after);
  }

  #join({ configuration, id }: Chain): void {
    const ids = this.#ofConfiguration.get(configuration);
    if (ids === undefined) this.#ofConfiguration.set(configuration, new Set([id]));
    else ids.add(id);
  }

  #leave({ configuration, id }: Chain): void {
    const ids = this.#ofConfiguration.get(configuration);
    ids?.delete(id);
    if (ids?.size === 0) this.#ofConfiguration.delete(configuration);
  }
}

function isFreeing(chain: Chain): boolean {
  return jobsOf(chain).some((job) => job.assigned !== undefined && !isInHand(job.state));
}

function mark(ids: Set<ChainId>, id: ChainId, is: boolean): void {
  if (is) ids.add(id);
  else ids.delete(id);
}

/** Puts an id into the sorted list, or takes it out. */
function toggle(ids: ChainId[], id: ChainId, is: boolean): void {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ids[middle] ?? "") < id) low = middle + 1;
    else high = middle;
  }
  if (is) ids.splice(low, 0, id);
  else ids.splice(low, 1);
}
