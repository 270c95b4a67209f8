/**
 * What a step looks up instead of going through all chains: a farm with thousands of queued chains takes a claim or a report as
 * fast as an empty one.
 *
 * 1. An index says of a farm's chains what a scan of them would say, and nothing else.
 * 2. It belongs to one value of the farm: a step takes it along to the next one, and whoever looks at the former value again
 *    builds another from its chains.
 */
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import type { AgentId, ChainId, Configuration } from "#protocol/ids.ts";
import { type CompileJob, type ConfirmJob, isTerminal, type Lane } from "#protocol/job.ts";
import { expectedBuildMs, expectedUploadMs, hasBuilt } from "#coordinator/core/durations.ts";
import { isCleaning, isInHand, isTaking } from "#coordinator/core/in-hand.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";
import { orderKey } from "#coordinator/core/order.ts";
import { buildKey } from "#coordinator/core/reuse.ts";
import { queuedJob } from "#coordinator/core/queued-job.ts";
import { Segments } from "#coordinator/core/segments.ts";
import { SortedIds } from "#coordinator/core/sorted-ids.ts";
import { isAwaiting } from "#coordinator/core/timing.ts";
import { SumOfIds } from "#coordinator/core/sum-of-ids.ts";

type Chains = ReadonlyMap<ChainId, Chain>;

const indexes = new WeakMap<Chains, FarmIndex>();

export class FarmIndex {
  /** Chains with a queued job of the lane, in the order of the queue (`order.ts`); builds as if there were no trees. */
  readonly queued: Readonly<Record<Lane, SortedIds>> = { compile: new SortedIds(), upload: new SortedIds() };
  /** Chains with a queued build, with the time that it takes (ms) where a tree is still there of what was built before. */
  readonly builds = new SumOfIds();
  readonly segments = new Segments();
  /** Chains of which a job is in hand, or a probe waits: those that take devices, trees and slots. */
  readonly taking = new Set<ChainId>();
  /** Chains with a job that has been in hand and is no longer. */
  readonly freeing = new Set<ChainId>();
  /** Chains of which a clean is not over. */
  readonly cleaning = new Set<ChainId>();
  /** Chains whose upload waits for a sign of life of its device. */
  readonly awaiting = new Set<ChainId>();
  /** Chains whose device has been flashed, and is to be asked again. */
  readonly confirming = new Set<ChainId>();
  /** Chains of which an agent has a job in hand. */
  readonly #inHandOf = new Map<AgentId, Set<ChainId>>();
  readonly #ofConfiguration = new Map<Configuration, Set<ChainId>>();
  readonly #ofRollout = new Map<ChainId, Set<ChainId>>();
  /** Chains that build, by what they build (`reuse.ts`). */
  readonly #ofBuildKey = new Map<string, Set<ChainId>>();

  #knowledge: Knowledge;

  constructor(knowledge: Knowledge) {
    this.#knowledge = knowledge;
  }

  /** The index of these chains; theirs no longer (invariant 2). What is queued from now on goes by this knowledge. */
  static take(chains: Chains, knowledge: Knowledge): FarmIndex {
    const kept = indexes.get(chains);
    indexes.delete(chains);
    if (kept !== undefined) {
      kept.#knowledge = knowledge;
      return kept;
    }
    const index = new FarmIndex(knowledge);
    for (const chain of chains.values()) index.replace(undefined, chain);
    return index;
  }

  /** Of chains whose index stays theirs. */
  static inHandIn(chains: Chains, agent: AgentId): readonly ChainId[] {
    const kept = indexes.get(chains);
    if (kept !== undefined) return kept.inHandOf(agent);
    return [...chains.values()].filter((chain) => holdersOf(chain).includes(agent)).map(({ id }) => id);
  }

  giveTo(chains: Chains): void {
    indexes.set(chains, this);
  }

  inHandOf(agent: AgentId): readonly ChainId[] {
    return [...(this.#inHandOf.get(agent) ?? [])].sort();
  }

  /** How many chains an agent has jobs of in hand. */
  inHandCount(agent: AgentId): number {
    return this.#inHandOf.get(agent)?.size ?? 0;
  }

  ofConfiguration(configuration: Configuration): readonly ChainId[] {
    return [...(this.#ofConfiguration.get(configuration) ?? [])].sort();
  }

  ofRollout(id: ChainId): readonly ChainId[] {
    return [...(this.#ofRollout.get(id) ?? [])].sort();
  }

  ofBuildKey(key: string): readonly ChainId[] {
    return [...(this.#ofBuildKey.get(key) ?? [])].sort();
  }

  /** One chain instead of another of the same id; undefined: there was none, or there is none any more. */
  replace(before: Chain | undefined, after: Chain | undefined): void {
    const id = (after ?? before)?.id;
    if (id === undefined) return;
    for (const lane of ["compile", "upload"] as const) this.#enqueue(lane, before, after, id);
    this.segments.replace(before, after, (chain) => expectedUploadMs(this.#knowledge, chain));
    for (const agent of holdersOf(before)) leave(this.#inHandOf, agent, id);
    for (const agent of holdersOf(after)) join(this.#inHandOf, agent, id);
    mark(this.taking, id, after !== undefined && isTaking(after));
    mark(this.freeing, id, after !== undefined && isFreeing(after));
    mark(this.cleaning, id, after !== undefined && isCleaning(after));
    mark(this.awaiting, id, isAwaiting(after?.upload));
    mark(this.confirming, id, after?.upload?.state === "succeeded" && isOpen(after.confirm));
    // The configurations of a chain, its rollout, and what it builds, never change.
    if (after === undefined && before !== undefined) this.#leave(before);
    if (before === undefined && after !== undefined) this.#join(after);
  }

  #enqueue(lane: Lane, before: Chain | undefined, after: Chain | undefined, id: ChainId): void {
    const job = after === undefined ? undefined : queuedJob(after, lane);
    if (after === undefined || job === undefined) {
      this.queued[lane].remove(id);
      if (lane === "compile") this.builds.remove(id);
      return;
    }
    // Its place is fixed as long as it waits, whatever is learned meanwhile.
    if (before !== undefined && queuedJob(before, lane) !== undefined) return;
    const isBuild = job.name === "compile";
    this.queued[lane].put(id, orderKey(after, job, isBuild ? expectedBuildMs(this.#knowledge, after, false) : 0));
    if (isBuild) this.builds.put(id, expectedBuildMs(this.#knowledge, after, hasBuilt(this.#knowledge, after)));
  }

  #join(chain: Chain): void {
    for (const name of configurationsOf(chain)) join(this.#ofConfiguration, name, chain.id);
    if (chain.rollout !== undefined) join(this.#ofRollout, chain.rollout.id, chain.id);
    if (chain.compile !== undefined) join(this.#ofBuildKey, keyOf(chain.compile), chain.id);
  }

  #leave(chain: Chain): void {
    for (const name of configurationsOf(chain)) leave(this.#ofConfiguration, name, chain.id);
    if (chain.rollout !== undefined) leave(this.#ofRollout, chain.rollout.id, chain.id);
    if (chain.compile !== undefined) leave(this.#ofBuildKey, keyOf(chain.compile), chain.id);
  }
}

function isOpen(confirm: ConfirmJob | undefined): boolean {
  return confirm !== undefined && !isTerminal(confirm.state);
}

function keyOf({ spec, route }: CompileJob): string {
  return buildKey(spec, route);
}

function join<K>(groups: Map<K, Set<ChainId>>, key: K, id: ChainId): void {
  const ids = groups.get(key);
  if (ids === undefined) groups.set(key, new Set([id]));
  else ids.add(id);
}

function leave<K>(groups: Map<K, Set<ChainId>>, key: K, id: ChainId): void {
  const ids = groups.get(key);
  ids?.delete(id);
  if (ids?.size === 0) groups.delete(key);
}

/** Agents that have a job of the chain in hand. */
function holdersOf(chain: Chain | undefined): readonly AgentId[] {
  if (chain === undefined) return [];
  return jobsOf(chain).flatMap(({ state, assigned }) =>
    assigned !== undefined && isInHand(state) ? [assigned.agent] : [],
  );
}

function isFreeing(chain: Chain): boolean {
  return jobsOf(chain).some((job) => job.assigned !== undefined && !isInHand(job.state));
}

function mark(ids: Set<ChainId>, id: ChainId, is: boolean): void {
  if (is) ids.add(id);
  else ids.delete(id);
}
