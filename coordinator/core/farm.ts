/**
 * The whole state of the farm as one immutable value, and the draft by which one step changes it.
 *
 * 1. `chains` holds what the live bucket holds: chains that are not finished, and finished ones until they are archived.
 * 2. Only the coordinator's own transition makes a new farm; a farm is never changed in place.
 */
import type { Announcement } from "#protocol/agent.ts";
import type { Chain } from "#protocol/chain.ts";
import type { AgentId, ChainId } from "#protocol/ids.ts";

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
}

export const emptyFarm: Farm = { chains: new Map(), agents: new Map() };

/** Collects the changes of one step over a farm that stays as it is. */
export class Draft {
  readonly #base: Farm;
  readonly #chains = new Map<ChainId, Chain | undefined>();
  readonly #agents = new Map<AgentId, AgentState>();

  constructor(base: Farm) {
    this.#base = base;
  }

  chain(id: ChainId): Chain | undefined {
    return this.#chains.has(id) ? this.#chains.get(id) : this.#base.chains.get(id);
  }

  setChain(chain: Chain): void {
    this.#chains.delete(chain.id);
    this.#chains.set(chain.id, chain);
  }

  removeChain(id: ChainId): void {
    this.#chains.set(id, undefined);
  }

  agent(id: AgentId): AgentState | undefined {
    return this.#agents.get(id) ?? this.#base.agents.get(id);
  }

  setAgent(state: AgentState): void {
    this.#agents.set(state.announcement.agent, state);
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

  agents(): readonly AgentState[] {
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

  finish(): Farm {
    if (this.#chains.size === 0 && this.#agents.size === 0) return this.#base;
    const chains = this.#chains.size === 0 ? this.#base.chains : new Map(this.#base.chains);
    if (chains instanceof Map) {
      for (const [id, chain] of this.#chains) {
        if (chain === undefined) chains.delete(id);
        else chains.set(id, chain);
      }
    }
    const agents = this.#agents.size === 0 ? this.#base.agents : new Map([...this.#base.agents, ...this.#agents]);
    return { chains, agents };
  }
}
