/** What an agent has built, and that nothing of it is to be flashed. What the history has no more is not known. */
import type { Shelf } from "#actor/coordinator-ports.ts";
import type { AdminAnswer, AdminRequest, AgentBuild } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import type { AgentId } from "#protocol/ids.ts";
import { madeBy } from "#coordinator/core/blocked-builds.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Memory } from "#coordinator/memory.ts";
import type { Registry } from "#coordinator/registry.ts";

export interface ArtifactPorts {
  readonly registry: Registry;
  readonly memory: Pick<Memory, "block" | "unblock">;
  readonly history: Pick<Shelf<Chain>, "newest">;
  farm(): Farm;
}

/** As many chains as the history keeps without being told otherwise. */
const lookBackMax = 5_000;
const shownMax = 1_000;

/** @throws UnavailableError */
export async function agentArtifacts(
  ports: ArtifactPorts,
  { agent, isBlocked }: Extract<AdminRequest, { readonly kind: "agent-artifacts" }>,
): Promise<AdminAnswer> {
  const { registry, memory, history } = ports;
  const record = registry.recordOf(agent);
  if (isBlocked !== undefined) {
    if (record === undefined) {
      const message = `no agent ${agent} was ever paired; \`flashyard agent ls\` lists them`;
      return { kind: "refused", code: "not-found", message };
    }
    await registry.setBlocked(agent, isBlocked);
  }
  const chains = [...ports.farm().chains.values(), ...(await history.newest(lookBackMax))];
  if (isBlocked === true) await memory.block(agent, chains);
  if (isBlocked === false) memory.unblock(agent);
  const builds = chains
    .flatMap((chain): AgentBuild[] => {
      const built = madeBy(chain);
      if (built?.agent !== agent) return [];
      const { id, configuration } = chain;
      return [{ chain: id, configuration, at: built.at, images: built.manifest.images.map(({ digest }) => digest) }];
    })
    .toSorted((a, b) => b.at - a.at)
    .slice(0, shownMax);
  const isNowBlocked = registry.recordOf(agent)?.blockedAt !== undefined;
  return { kind: "agent-artifacts", agent, builds, isBlocked: isNowBlocked };
}

/** Called when a coordinator begins to lead. @throws UnavailableError */
export async function recallBlocked(
  registry: Registry,
  memory: Pick<Memory, "block">,
  history: Pick<Shelf<Chain>, "newest">,
): Promise<void> {
  const blocked: readonly AgentId[] = registry
    .records()
    .filter(({ blockedAt }) => blockedAt !== undefined)
    .map(({ agent }) => agent);
  if (blocked.length === 0) return;
  const chains = await history.newest(lookBackMax);
  for (const agent of blocked) await memory.block(agent, chains);
}
