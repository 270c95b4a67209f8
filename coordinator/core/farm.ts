/**
 * The whole state of the farm as one immutable value, and the draft by which one step changes it.
 *
 * 1. `chains` holds what the live bucket holds: chains that are not finished, and finished ones until they are archived.
 * 2. Only the coordinator's own transition makes a new farm; a farm is never changed in place.
 */
import type { Announcement } from "#protocol/agent.ts";
import type { Chain } from "#protocol/chain.ts";
import type { AgentId, ChainId, Configuration } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { FarmIndex } from "#coordinator/core/farm-index.ts";
import { type Knowledge, noKnowledge } from "#coordinator/core/knowledge.ts";
import { expectedMs, orderKey } from "#coordinator/core/order.ts";
import { queuedJob } from "#coordinator/core/queued-job.ts";
import type { Segment } from "#coordinator/core/segments.ts";
import { Trees } from "#coordinator/core/trees.ts";
import { type Standing, standingOf } from "#coordinator/core/waves.ts";

/** An agent as the coordinator knows it: its last statement, and when it was heard or given up. */
export interface AgentState {
  readonly announcement: Announcement;
  readonly seenAt: number;
  /** Set when its presence ended; cleared by its next statement. */
  readonly vanishedAt?: number;
}

export interface Farm {
  readonly chains: ReadonlyMap<ChainId, Chain>;
  readonly agents: ReadonlyMap<AgentId, AgentState>;
  readonly knowledge: Knowledge;
}

export const emptyFarm: Farm = { chains: new Map(), agents: new Map(), knowledge: noKnowledge };

interface QueuedBuild {
  readonly chain: Chain;
  readonly buildMs: number;
  readonly key: number;
}

/** What is queued beyond this has its place as if there were no trees: all of it would have to be sorted at each step. */
const inTurnMax = 256;

/** Collects the changes of one step over a farm that stays as it is. */
export class Draft {
  readonly #base: Farm;
  readonly #chains = new Map<ChainId, Chain | undefined>();
  readonly #agents = new Map<AgentId, AgentState>();
  readonly #index: FarmIndex;
  readonly #trees: Trees;
  /** Of rollouts, as long as none of their chains has changed: each of a thousand chains asks for it. */
  readonly #standings = new Map<ChainId, Standing>();
  /** As long as nothing has changed. */
  #builds: readonly QueuedBuild[] | undefined;

  constructor(base: Farm) {
    this.#base = base;
    this.#index = FarmIndex.take(base.chains, base.knowledge);
    this.#trees = Trees.take(base.agents);
  }

  get knowledge(): Knowledge {
    return this.#base.knowledge;
  }

  chain(id: ChainId): Chain | undefined {
    return this.#chains.has(id) ? this.#chains.get(id) : this.#base.chains.get(id);
  }

  setChain(chain: Chain): void {
    this.#builds = undefined;
    this.#forgetStanding(chain);
    this.#index.replace(this.chain(chain.id), chain);
    this.#chains.delete(chain.id);
    this.#chains.set(chain.id, chain);
  }

  removeChain(id: ChainId): void {
    this.#builds = undefined;
    this.#forgetStanding(this.chain(id));
    this.#index.replace(this.chain(id), undefined);
    this.#chains.set(id, undefined);
  }

  agent(id: AgentId): AgentState | undefined {
    return this.#agents.get(id) ?? this.#base.agents.get(id);
  }

  setAgent(state: AgentState): void {
    this.#trees.replace(this.agent(state.announcement.agent), state);
    this.#agents.set(state.announcement.agent, state);
    this.#builds = undefined;
  }

  /** All chains in order of their ids, which is the order in which they were asked for. */
  chains(): readonly Chain[] {
    const all: Chain[] = [];
    for (const [id, chain] of this.#base.chains) {
      const current = this.#chains.has(id) ? this.#chains.get(id) : chain;
      if (current !== undefined) all.push(current);
    }
    for (const [id, chain] of this.#chains) {
      if (chain !== undefined && !this.#base.chains.has(id)) all.push(chain);
    }
    return all.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Chains of one configuration, oldest first. */
  chainsOf(configuration: Configuration): readonly Chain[] {
    return this.#all(this.#index.ofConfiguration(configuration));
  }

  /** Chains that build what this key says, oldest first. */
  chainsBuilding(key: string): readonly Chain[] {
    return this.#all(this.#index.ofBuildKey(key));
  }

  /** Chains with a queued job of the lane, in the order of the queue. The draft must not change while they are gone through. */
  *queued(lane: Lane): Iterable<Chain> {
    for (const id of this.#index.queued[lane].ids()) {
      const chain = this.chain(id);
      if (chain !== undefined) yield chain;
    }
  }

  hasQueued(lane: Lane): boolean {
    return this.#index.queued[lane].size > 0;
  }

  /** Those of some chains that have a queued job of the lane, in the order of the queue. */
  inQueue(lane: Lane, ids: Iterable<ChainId>): readonly Chain[] {
    const queued = this.#index.queued[lane];
    const placed = [...ids].flatMap((id) => {
      const key = queued.keyOf(id);
      return key === undefined ? [] : [{ id, key }];
    });
    return this.#all(placed.sort((a, b) => a.key - b.key || (a.id < b.id ? -1 : 1)).map(({ id }) => id));
  }

  /** Whether a queued build has waited beyond its place: all that came after it by then go behind it. */
  isOverdue(id: ChainId, at: number): boolean {
    return (this.#index.queued.compile.keyOf(id) ?? at) < at;
  }

  /** What is queued for the compile lane, in its turn: by the trees that are there now, unless the queue is long. */
  *inTurn(): Iterable<Chain> {
    if (this.#isLong()) yield* this.queued("compile");
    else for (const { chain } of this.#queuedBuilds()) yield chain;
  }

  /** How long the queued builds are expected to take, one after the other. */
  get queuedBuildMs(): number {
    if (this.#isLong()) return this.#index.builds.sum;
    return this.#queuedBuilds().reduce((sum, { buildMs }) => sum + buildMs, 0);
  }

  #isLong(): boolean {
    return this.#index.queued.compile.size > inTurnMax;
  }

  #queuedBuilds(): readonly QueuedBuild[] {
    this.#builds ??= [...this.queued("compile")]
      .flatMap((chain) => {
        const job = queuedJob(chain, "compile");
        const buildMs = job?.name === "compile" ? expectedMs(this, chain) : 0;
        return job === undefined ? [] : [{ chain, buildMs, key: orderKey(chain, job, buildMs) }];
      })
      .sort((a, b) => a.key - b.key || (a.chain.id < b.chain.id ? -1 : 1));
    return this.#builds;
  }

  get queuedBuilds(): number {
    return this.#index.builds.size;
  }

  /** What is to come or under way over each scarce segment. */
  segments(): ReadonlyMap<string, Segment> {
    return this.#index.segments.all;
  }

  /** Agents that have the tree of a chain, also such as are away. */
  ownersOf(chain: Chain): ReadonlySet<AgentId> {
    return this.#trees.ownersOf(chain);
  }

  /** Whether an agent that is here and builds has the tree of a chain. */
  hasTree(chain: Chain): boolean {
    for (const id of this.#trees.ownersOf(chain)) {
      if (this.agent(id)?.vanishedAt === undefined && !this.knowledge.drained.has(id)) return true;
    }
    return false;
  }

  /** Chains of which a job is in hand, or a probe waits; oldest first. */
  taking(): readonly Chain[] {
    return this.#all([...this.#index.taking].sort());
  }

  /** Chains of which an agent has a job in hand, oldest first. */
  inHandOf(agent: AgentId): readonly Chain[] {
    return this.#all(this.#index.inHandOf(agent));
  }

  inHandCount(agent: AgentId): number {
    return this.#index.inHandCount(agent);
  }

  /** Chains of which a clean is not over, oldest first. */
  cleaning(): readonly Chain[] {
    return this.#index.cleaning.size === 0 ? [] : this.#all([...this.#index.cleaning].sort());
  }

  /** Chains of one rollout, oldest first. */
  rolloutOf(id: ChainId): readonly Chain[] {
    return this.#all(this.#index.ofRollout(id));
  }

  /** How the rollout of a chain stands; undefined for a chain of none. */
  standingOf({ rollout }: Chain): Standing | undefined {
    if (rollout === undefined) return undefined;
    const known = this.#standings.get(rollout.id) ?? standingOf(this.rolloutOf(rollout.id));
    this.#standings.set(rollout.id, known);
    return known;
  }

  #forgetStanding(chain: Chain | undefined): void {
    if (chain?.rollout !== undefined) this.#standings.delete(chain.rollout.id);
  }

  /** Chains whose upload waits for a sign of life of its device; in any order. */
  awaiting(): readonly Chain[] {
    return this.#all([...this.#index.awaiting]);
  }

  /** Chains whose device has been flashed and is to be asked again; in any order. */
  confirming(): readonly Chain[] {
    return this.#all([...this.#index.confirming]);
  }

  /** Chains with a job that has been in hand and is no longer; in any order. */
  freeing(): readonly Chain[] {
    return this.#all(this.#index.freeing);
  }

  #all(ids: Iterable<ChainId>): readonly Chain[] {
    const chains: Chain[] = [];
    for (const id of ids) {
      const chain = this.chain(id);
      if (chain !== undefined) chains.push(chain);
    }
    return chains;
  }

  agents(): readonly AgentState[] {
    if (this.#agents.size === 0) return [...this.#base.agents.values()];
    const all = [...this.#base.agents.values()].map((state) => this.#agents.get(state.announcement.agent) ?? state);
    for (const [id, state] of this.#agents) if (!this.#base.agents.has(id)) all.push(state);
    return all;
  }

  /**
   * The records that differ from the base: the new value, or undefined for one that is gone. In order of their last change:
   * when only the first of them are written, no assignment is among them whose place is freed by one that is missing.
   */
  changedChains(): ReadonlyMap<ChainId, Chain | undefined> {
    return this.#chains;
  }

  /** The next farm. The draft is used up: its index goes on with the farm. */
  finish(): Farm {
    const chains = this.#chains.size === 0 ? this.#base.chains : this.#finishChains();
    this.#index.giveTo(chains);
    const agents = this.#agents.size === 0 ? this.#base.agents : new Map([...this.#base.agents, ...this.#agents]);
    this.#trees.giveTo(agents);
    return chains === this.#base.chains && agents === this.#base.agents
      ? this.#base
      : { ...this.#base, chains, agents };
  }

  #finishChains(): ReadonlyMap<ChainId, Chain> {
    const chains = new Map(this.#base.chains);
    for (const [id, chain] of this.#chains) {
      if (chain === undefined) chains.delete(id);
      else chains.set(id, chain);
    }
    return chains;
  }
}
