/**
 * What a step looks up instead of going through all chains: a farm with thousands of queued chains takes a claim or a report as
 * fast as an empty one.
 *
 * 1. An index says of a farm's chains what a scan of them would say, and nothing else.
 * 2. It belongs to one value of the farm: a step takes it along to the next one, and whoever looks at the former value again
 *    builds another from its chains.
 */
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import type { ChainId, Configuration } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { isCleaning, isInHand, isTaking } from "#coordinator/core/in-hand.ts";

type Chains = ReadonlyMap<ChainId, Chain>;

const indexes = new WeakMap<Chains, FarmIndex>();

export class FarmIndex {
  /** Chains with a queued job of the lane, by id, which is the order in which they were asked for. */
  readonly queued: Readonly<Record<Lane, ChainId[]>> = { compile: [], upload: [] };
  /** Chains of which a job is in hand, or a probe waits: those that take devices, trees and slots. */
  readonly taking = new Set<ChainId>();
  /** Chains with a job that has been in hand and is no longer. */
  readonly freeing = new Set<ChainId>();
  /** Chains of which a clean is not over. */
  readonly cleaning = new Set<ChainId>();
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
      const was = before !== undefined && hasQueued(before, lane);
      const is = after !== undefined && hasQueued(after, lane);
      if (was !== is) toggle(this.queued[lane], id, is);
    }
    mark(this.taking, id, after !== undefined && isTaking(after));
    mark(this.freeing, id, after !== undefined && isFreeing(after));
    mark(this.cleaning, id, after !== undefined && isCleaning(after));
    // The configurations of a chain never change.
    if (after === undefined && before !== undefined) this.#leave(before);
    if (before === undefined && after !== undefined) this.#join(after);
  }

  #join(chain: Chain): void {
    for (const name of configurationsOf(chain)) {
      const ids = this.#ofConfiguration.get(name);
      if (ids === undefined) this.#ofConfiguration.set(name, new Set([chain.id]));
      else ids.add(chain.id);
    }
  }

  #leave(chain: Chain): void {
    for (const name of configurationsOf(chain)) {
      const ids = this.#ofConfiguration.get(name);
      ids?.delete(chain.id);
      if (ids?.size === 0) this.#ofConfiguration.delete(name);
    }
  }
}

function hasQueued(chain: Chain, lane: Lane): boolean {
  return jobsOf(chain).some((job) => job.lane === lane && job.state === "queued");
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
