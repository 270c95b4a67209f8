/**
 * Builds that a person does not trust, because of the agent that made them: nothing of them is flashed or used again.
 *
 * What was claimed before goes on: a flash that has begun is not broken off, and a device that may have been flashed is asked.
 */
import type { Chain } from "#protocol/chain.ts";
import type { AgentId, Digest } from "#protocol/ids.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { manifestOf } from "#coordinator/core/chains.ts";

export interface BlockedBuilds {
  readonly agents: ReadonlySet<AgentId>;
  /** What they have built, and who. */
  readonly images: ReadonlyMap<Digest, AgentId>;
}

export const nothingBlocked: BlockedBuilds = { agents: new Set(), images: new Map() };

/** Who built what a chain would flash, where that agent is blocked. */
export function blockedBuilder(chain: Chain, { agents, images }: BlockedBuilds): AgentId | undefined {
  if (agents.size === 0) return undefined;
  const built = madeBy(chain);
  if (built !== undefined && chain.upload?.spec.manifest === undefined && agents.has(built.agent)) return built.agent;
  const [first] = manifestOf(chain)?.images.flatMap(({ digest }) => images.get(digest) ?? []) ?? [];
  return first;
}

/** What a chain has built itself, and where; undefined where it used another one's build. */
export function madeBy({
  compile,
}: Chain): { readonly agent: AgentId; readonly manifest: ArtifactManifest; readonly at: number } | undefined {
  const { outcome, assigned, endedAt = 0 } = compile ?? {};
  if (outcome?.kind !== "built" || outcome.reusedFrom !== undefined || assigned === undefined) return undefined;
  return { agent: assigned.agent, manifest: outcome.manifest, at: endedAt };
}

/** With the builds of one more agent, or of one that builds on. */
export function blocking(before: BlockedBuilds, agent: AgentId, chains: readonly Chain[]): BlockedBuilds {
  const images = new Map(before.images);
  for (const chain of chains) {
    const built = madeBy(chain);
    if (built?.agent === agent) for (const { digest } of built.manifest.images) images.set(digest, agent);
  }
  return { agents: new Set(before.agents).add(agent), images };
}

export function unblocking(before: BlockedBuilds, agent: AgentId): BlockedBuilds {
  const agents = new Set(before.agents);
  agents.delete(agent);
  return { agents, images: new Map([...before.images].filter(([, by]) => by !== agent)) };
}
