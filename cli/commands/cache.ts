/** `flashyard cache`: what the farm keeps so that it need not be done again. */
import type { AgentView } from "#protocol/admin.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { ago, count, duration, size, table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface CacheOptions {
  readonly json?: boolean;
}

export async function runCacheList(session: Session, { json: isJson = false }: CacheOptions): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { builds } = await farm.ask({ v: 1, kind: "cache" }, "cache");
  const newestFirst = builds.toSorted((a, b) => b.builtAt - a.builtAt);
  const { terminal, clock } = session;
  if (isJson) {
    for (const build of newestFirst) terminal.json(build);
    return exitCodes.done;
  }
  if (newestFirst.length === 0) {
    terminal.line("no build is kept; what has been built within a day is used again for an equal request");
    return exitCodes.done;
  }
  const rows = newestFirst.map(({ configuration, manifest, builtAt, buildMs, agent, chain }) => [
    configuration,
    `${manifest.tool.name} ${manifest.tool.version}`,
    manifest.platform,
    size(manifest.images.reduce((sum, { bytes }) => sum + bytes, 0)),
    duration(buildMs),
    agent,
    ago(builtAt, clock.now()),
    chain,
  ]);
  const columns = terminal.isLive ? terminal.size().columns : undefined;
  const head = ["CONFIGURATION", "TOOL", "PLATFORM", "SIZE", "TOOK", "BUILT ON", "WHEN", "CHAIN"];
  for (const line of table(head, rows, columns)) terminal.line(line);
  return exitCodes.done;
}

export async function runCacheStats(session: Session, { json: isJson = false }: CacheOptions): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { builds } = await farm.ask({ v: 1, kind: "cache" }, "cache");
  const { agents } = await farm.ask({ v: 1, kind: "agents" }, "agents");
  const [bundles, artifacts] = await Promise.all([farm.bundles, farm.artifacts].map(stored));
  const { terminal } = session;
  const trees = agents.filter(({ announcement }) => announcement.compile !== undefined).map(treesOf);
  if (isJson) {
    terminal.json({ builds: builds.length, bundles, artifacts, agents: trees });
    return exitCodes.done;
  }
  terminal.line(`builds for equal requests: ${builds.length}`);
  terminal.line(`bundles in the farm:       ${storedSentence(bundles)}`);
  terminal.line(`artifacts in the farm:     ${storedSentence(artifacts)}`);
  for (const { agent, trees: number, bytes, environments } of trees) {
    terminal.line(
      `${agent}: ${count(number, "build tree")} of ${size(bytes)}, ESPHome ${environments.join(" ") || "–"}`,
    );
  }
  return exitCodes.done;
}

interface Stored {
  readonly objects: number;
  readonly bytes: number;
  readonly storedBytes: number;
}

async function stored(store: ObjectStore): Promise<Stored> {
  const objects = await store.list();
  return {
    objects: objects.length,
    bytes: objects.reduce((sum, { bytes }) => sum + bytes, 0),
    storedBytes: objects.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  };
}

function storedSentence(found: Stored | undefined): string {
  const { objects, bytes, storedBytes } = found ?? { objects: 0, bytes: 0, storedBytes: 0 };
  return `${objects}, ${size(storedBytes)} for ${size(bytes)}`;
}

function treesOf({ announcement: { agent, compile } }: AgentView) {
  const warm = compile?.warm ?? [];
  const bytes = warm.reduce((sum, tree) => sum + (tree.bytes ?? 0), 0);
  return { agent, trees: warm.length, bytes, environments: compile?.esphomeVersions ?? [] };
}

export async function runCachePrune(
  session: Session,
  { json: isJson = false, olderThan }: CacheOptions & { readonly olderThan: number },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const before = session.clock.now() - olderThan;
  const { builds, objects, bytes } = await farm.ask({ v: 1, kind: "prune-cache", before }, "cache-pruned");
  if (isJson) session.terminal.json({ kind: "pruned", builds, objects, bytes });
  else
    session.terminal.line(
      `forgot ${count(builds, "build")}, deleted ${count(objects, "object")} of ${size(bytes)} in the farm's store`,
    );
  return exitCodes.done;
}
