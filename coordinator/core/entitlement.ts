/** Which stored contents are an agent's business: those that a job needs which it has in hand. */
import type { Chain } from "#protocol/chain.ts";
import type { AgentId, Digest } from "#protocol/ids.ts";
import type { ObjectStoreName } from "#protocol/objects.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { FarmIndex } from "#coordinator/core/farm-index.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";

export function isInBusinessOf(farm: Farm, agent: AgentId, store: ObjectStoreName, digest: Digest): boolean {
  const chains = FarmIndex.inHandIn(farm.chains, agent).flatMap((id) => farm.chains.get(id) ?? []);
  return chains.some((chain) => (store === "bundles" ? needsBundle : concernsImage)(chain, agent, digest));
}

function needsBundle({ compile }: Chain, agent: AgentId, digest: Digest): boolean {
  return compile?.assigned?.agent === agent && isInHand(compile.state) && compile.spec.bundle === digest;
}

/** Whoever builds asks whether an image is there already, and reads none: the server does not let it. */
function concernsImage(chain: Chain, agent: AgentId, digest: Digest): boolean {
  const { compile, upload, confirm } = chain;
  if (compile?.assigned?.agent === agent && isInHand(compile.state)) return true;
  const isHolder = [upload, confirm].some((job) => job?.assigned?.agent === agent && isInHand(job.state));
  return isHolder && (manifestOf(chain)?.images.some((image) => image.digest === digest) ?? false);
}
