/** What people ask of the farm: where things stand. Pure. */
import type { AgentView } from "#protocol/admin.ts";
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import { type Configuration, type Digest, type JobName, JobName as JobNames } from "#protocol/ids.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { loadOf } from "#coordinator/core/slots.ts";

/** Jobs that wait for a slot; held ones wait for something else and do not count. */
export function queueDepth(farm: Farm): number {
  let depth = 0;
  for (const chain of farm.chains.values()) depth += jobsOf(chain).filter((job) => job.state === "queued").length;
  return depth;
}

export function agentViews(farm: Farm): readonly AgentView[] {
  const load = loadOf(farm.chains.values(), (agent) => farm.agents.get(agent));
  return [...farm.agents.values()].map(({ announcement, seenAt, vanishedAt }) => ({
    announcement,
    busy: load.get(announcement.agent)?.busy ?? 0,
    online: vanishedAt === undefined,
    isDrained: farm.knowledge.drained.has(announcement.agent),
    seenAt,
  }));
}

const bothNames = configurationsOf;
const ownName = ({ configuration }: Chain) => [configuration];

/**
 * Finds what the user named among some chains: a chain id, a configuration (its newest chain), or either with `.compile` or
 * `.upload` behind it. Configurations may hold dots, so the whole text is tried first.
 */
export function findChain(
  chains: readonly Chain[],
  reference: string,
  namesOf: (chain: Chain) => readonly string[] = bothNames,
): { readonly chain: Chain; readonly job?: JobName } | undefined {
  const newest = (text: string) =>
    chains
      .filter((chain) => chain.id === text || namesOf(chain).includes(text))
      .reduce<Chain | undefined>((best, chain) => (best === undefined || chain.id > best.id ? chain : best), undefined);
  const whole = newest(reference);
  if (whole !== undefined) return { chain: whole };
  for (const job of JobNames.options) {
    if (!reference.endsWith(`.${job}`)) continue;
    const chain = newest(reference.slice(0, -job.length - 1));
    if (chain !== undefined) return { chain, job };
  }
  return undefined;
}

/**
 * The newest build that the device of a configuration is known to have run well: it was still running a minute after its flash, or where
 * that was not asked, after it. Not the one that it was flashed with last.
 * @param newestFirst live and ended chains
 */
export function lastGoodBuild(newestFirst: readonly Chain[], configuration: Configuration) {
  const flashed = newestFirst.filter(
    (chain) => chain.configuration === configuration && chain.upload?.flashClaim !== undefined,
  );
  const current = flashed[0] === undefined ? undefined : identityOf(flashed[0]);
  for (const chain of flashed) {
    const { upload, confirm } = chain;
    const manifest = manifestOf(chain);
    const isGood = upload?.state === "succeeded" && (confirm === undefined || confirm.state === "succeeded");
    if (!isGood || manifest === undefined || identityOf(chain) === current) continue;
    return { chain: chain.id, configuration, manifest, builtAt: chain.compile?.endedAt ?? chain.createdAt };
  }
  return undefined;
}

/** What tells one build from another: its time where it has one, else its image. */
function identityOf(chain: Chain): string | undefined {
  const manifest = manifestOf(chain);
  return manifest?.esphome?.buildTimeStr ?? manifest?.images[0]?.digest;
}

/** The newest build that has succeeded among the chains that are named by their id or configuration. */
export function newestBuild(chains: readonly Chain[], reference: string): Chain | undefined {
  return findChain(
    chains.filter((chain) => chain.compile?.outcome?.kind === "built"),
    reference,
    ownName,
  )?.chain;
}

/** The newest build that made an image of this digest. */
export function newestWithImage(newestFirst: readonly Chain[], digest: Digest): Chain | undefined {
  return newestFirst.find(({ compile }) => {
    if (compile?.outcome?.kind !== "built") return false;
    const { images, debug = [] } = compile.outcome.manifest;
    return [...images, ...debug].some((image) => image.digest === digest);
  });
}
