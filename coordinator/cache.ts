/** Takes away what the farm has stored and nobody will ask for again. */
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import type { Chain } from "#protocol/chain.ts";
import type { Configuration, Digest } from "#protocol/ids.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Memory } from "#coordinator/memory.ts";

/** A bundle is stored before the chain that names it is asked for. */
const youngMs = 60 * 60_000;

export interface Pruned {
  readonly builds: number;
  readonly objects: number;
  readonly bytes: number;
}

/**
 * Forgets builds from before an instant and deletes bundles and artifacts that are older and that neither a live chain, nor a
 * build that is kept, nor the newest build of a configuration names. @throws UnavailableError
 */
export async function pruneCache(
  ports: Pick<CoordinatorPorts, "history" | "bundles" | "artifacts">,
  memory: Memory,
  farm: () => Farm,
  before: number,
  now: number,
): Promise<Pruned> {
  const builds = await memory.forgetBuilds(before);
  const until = Math.min(before, now - youngMs);
  const stored = await Promise.all([ports.bundles, ports.artifacts].map((objects) => objects.list()));
  const ended = await ports.history.all();
  // Read last: what has been asked for meanwhile is in use.
  const used = usedDigests([...farm().chains.values()], newestBuilds(ended), memory);
  const gone = stored.map((objects) => objects.filter(({ digest, at }) => at < until && !used.has(digest)));
  await ports.bundles.remove((gone[0] ?? []).map(({ digest }) => digest));
  await ports.artifacts.remove((gone[1] ?? []).map(({ digest }) => digest));
  const all = gone.flat();
  return { builds, objects: all.length, bytes: all.reduce((sum, { storedBytes }) => sum + storedBytes, 0) };
}

/** What `upload` and `retry` would flash. */
function newestBuilds(newestFirst: readonly Chain[]): readonly Chain[] {
  const found = new Map<Configuration, Chain>();
  for (const chain of newestFirst) {
    if (chain.compile?.outcome?.kind === "built" && !found.has(chain.configuration))
      found.set(chain.configuration, chain);
  }
  return [...found.values()];
}

function usedDigests(live: readonly Chain[], newest: readonly Chain[], memory: Memory): ReadonlySet<Digest> {
  const used = new Set<Digest>();
  const useImages = (manifest: ArtifactManifest | undefined) => {
    for (const { digest } of [...(manifest?.images ?? []), ...(manifest?.debug ?? [])]) used.add(digest);
  };
  for (const { compile, upload } of [...live, ...newest]) {
    if (compile !== undefined) used.add(compile.spec.bundle);
    if (compile?.outcome?.kind === "built") useImages(compile.outcome.manifest);
    useImages(upload?.spec.manifest);
  }
  for (const { bundle, manifest } of memory.knowledge.builds.values()) {
    used.add(bundle);
    useImages(manifest);
  }
  return used;
}
