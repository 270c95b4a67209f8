/**
 * Which agents have the build tree of which configuration, as their statements say: looked up instead of asking each of a thousand.
 *
 * 1. It says of a farm's agents what going through them would say, and nothing else.
 * 2. It belongs to one value of the agents, as the index of the chains does (`farm-index.ts`).
 */
import type { Chain } from "#protocol/chain.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import { treeKeyOf, treeKeysOf } from "#coordinator/core/warmth.ts";

type Agents = ReadonlyMap<AgentId, AgentState>;

const kept = new WeakMap<Agents, Trees>();
const nobody: ReadonlySet<AgentId> = new Set();
const none: ReadonlySet<string> = new Set();

export class Trees {
  readonly #owners = new Map<string, Set<AgentId>>();

  /** That of these agents; theirs no longer. */
  static take(agents: Agents): Trees {
    const former = kept.get(agents);
    kept.delete(agents);
    if (former !== undefined) return former;
    const trees = new Trees();
    for (const agent of agents.values()) trees.replace(undefined, agent);
    return trees;
  }

  giveTo(agents: Agents): void {
    kept.set(agents, this);
  }

  /** Agents that have the tree of a chain, also such as are away. */
  ownersOf(chain: Chain): ReadonlySet<AgentId> {
    const key = this.#owners.size === 0 ? undefined : treeKeyOf(chain);
    return key === undefined ? nobody : (this.#owners.get(key) ?? nobody);
  }

  replace(before: AgentState | undefined, after: AgentState): void {
    const [old, fresh] = [before === undefined ? none : treeKeysOf(before), treeKeysOf(after)];
    const { agent } = after.announcement;
    for (const key of old) if (!fresh.has(key)) this.#leave(key, agent);
    for (const key of fresh) if (!old.has(key)) this.#join(key, agent);
  }

  #join(key: string, agent: AgentId): void {
    const owners = this.#owners.get(key);
    if (owners === undefined) this.#owners.set(key, new Set([agent]));
    else owners.add(agent);
  }

  #leave(key: string, agent: AgentId): void {
    const owners = this.#owners.get(key);
    owners?.delete(agent);
    if (owners?.size === 0) this.#owners.delete(key);
  }
}
