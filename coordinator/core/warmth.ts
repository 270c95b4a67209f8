/** Where a configuration's build tree is warm: there a build that has changed a little takes seconds. */
import type { Chain } from "#protocol/chain.ts";
import type { WarmTree } from "#protocol/agent.ts";
import type { AgentState } from "#coordinator/core/farm.ts";

const keys = new WeakMap<readonly WarmTree[], ReadonlySet<string>>();
const none: ReadonlySet<string> = new Set();

/** Trees of a command's builds are kept under no version of anything. */
const commandVersion = "command";

/** What an agent's trees are known by. */
export function treeKeysOf({ announcement }: AgentState): ReadonlySet<string> {
  const trees = announcement.compile?.warm;
  if (trees === undefined || trees.length === 0) return none;
  let found = keys.get(trees);
  if (found === undefined) {
    found = new Set(trees.map((tree) => `${tree.version} ${tree.configuration}`));
    keys.set(trees, found);
  }
  return found;
}

/** What the tree is known by that the build of a chain needs; undefined where there is none. */
export function treeKeyOf({ configuration, compile }: Chain): string | undefined {
  if (compile === undefined) return undefined;
  return `${compile.spec.driver === "esphome" ? compile.spec.version : commandVersion} ${configuration}`;
}

export function isWarmFor(chain: Chain, agent: AgentState): boolean {
  const key = treeKeyOf(chain);
  return key !== undefined && treeKeysOf(agent).has(key);
}
