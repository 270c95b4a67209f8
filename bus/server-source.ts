/** What every source of a nats-server has in common, and the two that only look at what is on this machine already. */
import { access, constants, readdir, stat } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { type ProcessResult, runProcess } from "#actor/subprocess.ts";
import { compareServerVersions, parseServerVersion, type ServerVersion } from "#bus/server-version.ts";

/** Name of the program in every archive, wheel, cache and PATH. */
export const serverFileName = "nats-server";

export type Sought =
  /** Paths to try in this order; `isStaged` ones lie in the staging folder and are kept by moving them into the cache. */
  | { readonly kind: "found"; readonly paths: readonly string[]; readonly isStaged: boolean }
  | { readonly kind: "missed"; readonly why: string };

export interface SourceWorld {
  readonly cacheFolder: string;
  /** Empty, on the same file system as the cache; removed after the search. */
  readonly stagingFolder: string;
  /** The whole environment of the tools; its PATH is searched. */
  readonly env: Readonly<Record<string, string>>;
  /** Ends with the source's deadline or the caller's signal. */
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

export interface ServerSource {
  /** As it stands in a sentence: “PATH”, “a wheel through pip”. */
  readonly name: string;
  readonly msMax: number;
  /** What was found is not trusted yet: the caller runs it and asks for its version. */
  readonly seek: (world: SourceWorld) => Promise<Sought>;
}

export function missed(why: string): Sought {
  return { kind: "missed", why };
}

/** Looking at a local disk; a home folder on a network file system may need seconds. */
const localMsMax = 20_000;

/** `<cache>/nats-server-<version>/nats-server`, the newest version first. */
export const cacheSource: ServerSource = {
  name: "the cache",
  msMax: localMsMax,
  async seek({ cacheFolder }) {
    const held: { path: string; version: ServerVersion }[] = [];
    for (const folder of await readdir(cacheFolder).catch(() => [])) {
      const prefix = `${serverFileName}-`;
      const version = folder.startsWith(prefix) ? parseServerVersion(folder.slice(prefix.length)) : undefined;
      if (version !== undefined) held.push({ path: join(cacheFolder, folder, serverFileName), version });
    }
    if (held.length === 0) return missed(`nothing in ${cacheFolder}`);
    held.sort((a, b) => compareServerVersions(b.version, a.version));
    return { kind: "found", paths: held.map((one) => one.path), isStaged: false };
  },
};

export const pathSource: ServerSource = {
  name: "PATH",
  msMax: localMsMax,
  async seek({ env }) {
    const paths: string[] = [];
    for (const folder of (env["PATH"] ?? "").split(delimiter)) {
      const path = join(folder, serverFileName);
      if (folder !== "" && (await isExecutable(path))) paths.push(path);
    }
    return paths.length === 0 ? missed("no nats-server in it") : { kind: "found", paths, isStaged: false };
  },
};

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

export type FoundVersion =
  | { readonly kind: "version"; readonly version: string }
  | { readonly kind: "unusable"; readonly why: string };

/** A program that does not answer within this is not a nats-server, or lies on a disk that no farm can run from. */
const versionMsMax = 15_000;

/** Runs `<path> --version`: only a program that starts on this machine and names its version is usable. */
export async function versionOf(
  path: string,
  world: { readonly env: Readonly<Record<string, string>>; readonly signal?: AbortSignal },
): Promise<FoundVersion> {
  let version: string | undefined;
  const result = await runProcess({
    argv: [path, "--version"],
    env: world.env,
    totalMs: versionMsMax,
    ...(world.signal === undefined ? {} : { signal: world.signal }),
    onLine: (line) => {
      version ??= /^nats-server: v?(\S+)$/.exec(line.trim())?.[1];
    },
  });
  if (result.end.kind !== "exited" || result.end.exitCode !== 0) return { kind: "unusable", why: describeEnd(result) };
  if (version === undefined) return { kind: "unusable", why: "it does not name a version of nats-server" };
  return { kind: "version", version };
}

/** Why a tool did not do its work, with its own last words. */
export function describeEnd(result: ProcessResult): string {
  const lastWords = result.tail.findLast((line) => line.trim() !== "");
  const said = lastWords === undefined ? "" : `: ${lastWords.trim()}`;
  switch (result.end.kind) {
    case "exited":
      return `exit code ${result.end.exitCode}${said}`;
    case "signalled":
      return `ended by ${result.end.signal}${said}`;
    case "aborted":
      return "interrupted";
    case "over-limit":
      return `over its limit of ${result.end.reached.resource}`;
    case "deadline":
      return `not done after ${result.end.limitMs / 1000} s${said}`;
    case "not-started":
      return result.end.reason === "not-found" ? "not there" : result.end.detail;
  }
}
