/** Small farms for tests of the core: requests, agents and the events between them, with everything unimportant filled in. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Announcement, HeldJob } from "#protocol/agent.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { type Chain, jobOf } from "#protocol/chain.ts";
import type { Failure } from "#protocol/failure.ts";
import { AgentId, BootId, type ChainId, chainIdFrom, Configuration, Digest, type JobName } from "#protocol/ids.ts";
import { type BuildSpec, type Job, type Lane, type Medium, OtaTarget, type UploadTarget } from "#protocol/job.ts";
import type { JobResult } from "#protocol/job.ts";
import { PortId } from "#protocol/serial.ts";

/** The instant at which every farm of these tests starts. */
export const startAt = Date.UTC(2026, 0, 1);

/** The n-th chain id; ids sort as their numbers do. */
export function chainNumber(n: number): ChainId {
  return chainIdFrom(startAt + n, new Uint8Array([0, 0, 0, 0, 0, n % 32]));
}

export const agentNamed = (name: string): AgentId => AgentId.parse(name);
export const configurationNamed = (name: string): Configuration => Configuration.parse(name);

/** The n-th life of an agent. */
export const bootNumber = (n: number): BootId => BootId.parse(`boot${String(n).padStart(4, "0")}`);

/** A digest that says in its last digits which one it is. */
export function digestNumber(n: number): Digest {
  return Digest.parse(n.toString(16).padStart(64, "0"));
}

export function buildSpec(version = "2026.10.0", bundle = 1): BuildSpec {
  return { driver: "esphome", version, bundle: digestNumber(bundle), entry: "device.yaml" };
}

export function targetAt(host: string): OtaTarget {
  return OtaTarget.parse({ kind: "ota", host, port: 3232, name: host.split(".")[0] });
}

export function overMedium(target: UploadTarget, medium: Medium): UploadTarget {
  return target.kind === "ota" ? { ...target, medium } : target;
}

/** What a build leaves behind; `build` is what the device says it runs once it was flashed with it. */
export function manifestOfBuild(build: string): ArtifactManifest {
  return {
    v: 1,
    tool: { name: "esphome", version: "2026.10.0" },
    platform: "esp32",
    images: [{ role: "ota", name: "firmware.ota.bin", digest: digestNumber(build.length), bytes: 1_000 }],
    esphome: { name: "device", configHash: "1a2b3c4d", buildTime: 1, buildTimeStr: build, esphomeVersion: "2026.10.0" },
  };
}

export interface RequestOptions {
  readonly configuration?: string;
  readonly host?: string;
  readonly on?: string;
  readonly version?: string;
  /** Which bundle is built; by default every request has one of its own. */
  readonly bundle?: number;
}

/** Build, then flash. Every configuration has a device of its own unless `host` says otherwise. */
export function installRequest(n: number, options: RequestOptions = {}): ChainRequest {
  const configuration = options.configuration ?? `device ${n}`;
  return {
    id: chainNumber(n),
    kind: "install",
    configuration: configurationNamed(configuration),
    build: buildSpec(options.version, options.bundle ?? n),
    upload: uploadHalf(configuration, options),
  };
}

export function buildRequest(n: number, options: RequestOptions = {}): ChainRequest {
  const configuration = configurationNamed(options.configuration ?? `device ${n}`);
  return { id: chainNumber(n), kind: "build", configuration, build: buildSpec(options.version, options.bundle ?? n) };
}

/** Gives the device of `renamed` (by default `old n`) the name of the configuration. */
export function renameRequest(n: number, options: RequestOptions & { readonly renamed?: string } = {}): ChainRequest {
  const renamedFrom = configurationNamed(options.renamed ?? `old ${n}`);
  return { ...installRequest(n, options), kind: "rename", renamedFrom };
}

/** Flashes an artifact that is there already. */
export function uploadRequest(n: number, options: RequestOptions = {}): ChainRequest {
  const configuration = options.configuration ?? `device ${n}`;
  return {
    id: chainNumber(n),
    kind: "upload",
    configuration: configurationNamed(configuration),
    upload: { ...uploadHalf(configuration, options), manifest: manifestOfBuild(`given ${n}`) },
  };
}

function uploadHalf(configuration: string, { host, on }: RequestOptions) {
  const target = targetAt(host ?? `${configuration.replaceAll(" ", "-")}.local`);
  return on === undefined ? { target } : { target, on: agentNamed(on) };
}

export interface StatementOptions {
  readonly boot?: number;
  readonly slots?: number;
  readonly idleSince?: number | null;
  readonly holding?: readonly HeldJob[];
  readonly esphomeVersions?: readonly string[];
  readonly makesEnvironments?: boolean;
  /** Configurations of which it has a tree of ESPHome 2026.10.0. */
  readonly warm?: readonly string[];
  /** Serial ports that an upload agent has. */
  readonly ports?: readonly string[];
}

/** An agent's statement. A compile lane makes any environment unless `makesEnvironments` is false. */
export function statementOf(agent: string, lane: Lane, options: StatementOptions = {}): Announcement {
  const compile = {
    esphomeVersions: [...(options.esphomeVersions ?? [])],
    makesEnvironments: options.makesEnvironments ?? true,
    pythons: [],
    cpus: 2,
    memoryBytes: 1,
    warm: (options.warm ?? []).map((name) => ({ version: "2026.10.0", configuration: configurationNamed(name) })),
  };
  const ports = (options.ports ?? []).map((id) => ({ id: PortId.parse(id), path: `/dev/${id}` }));
  return {
    v: 1,
    agent: agentNamed(agent),
    boot: bootNumber(options.boot ?? 1),
    lane,
    slots: options.slots ?? 1,
    idleSince: options.idleSince === undefined ? startAt : options.idleSince,
    holding: [...(options.holding ?? [])],
    ...(lane === "compile" ? { compile } : {}),
    ...(ports.length === 0 ? {} : { upload: { ports: [...ports], flashers: [] } }),
    version: "0.1.0",
    host: agent,
    pid: 1,
  };
}

/** The job of a chain, which must be there. */
export function jobIn(chain: Chain | undefined, name: JobName): Job {
  const job = chain === undefined ? undefined : jobOf(chain, name);
  if (job === undefined) throw new Error(`the chain has no ${name}`);
  return job;
}

export const built = (build = "build"): JobResult => ({
  kind: "built",
  manifest: manifestOfBuild(build),
  buildMs: 1_000,
});
export const flashed: JobResult = { kind: "flashed", level: "running", wrote: true, flashMs: 1_000 };
export const confirmed: JobResult = { kind: "confirmed" };
/** How each kind of job succeeds. */
export const successes: Readonly<Record<JobName, JobResult>> = {
  compile: built(),
  upload: flashed,
  confirm: confirmed,
  clean: { kind: "cleaned", trees: 1 },
};
export const cleaned: JobResult = { kind: "cleaned", trees: 1 };
export const failedWith = (failure: Failure): JobResult => ({ kind: "failed", failure });

/** One failure of every way in which the farm reacts to it. */
export const failures = {
  final: { kind: "compiler-exit", exitCode: 1, tail: ["error: no such thing"] },
  elsewhere: { kind: "toolchain-missing", missing: "g++", detail: "not found" },
  later: { kind: "device-unreachable", address: "10.0.0.1:3232", detail: "no route" },
  uncertain: {
    kind: "upload-interrupted",
    address: "10.0.0.1:3232",
    phase: "committing",
    effect: "uncertain",
    sentBytes: 1_000,
    totalBytes: 1_000,
    detail: "the connection was reset",
  },
  partial: {
    kind: "upload-interrupted",
    address: "10.0.0.1:3232",
    phase: "sending",
    effect: "partial",
    sentBytes: 500,
    totalBytes: 1_000,
    detail: "the connection was reset",
  },
  cutAtPort: { kind: "flasher-failed", tool: "esptool", port: "usb-1", phase: "sending", effect: "partial", tail: [] },
  rolledBack: { kind: "rolled-back", address: "10.0.0.1:3232", wanted: "new", found: "old" },
  notRunning: { kind: "not-running", address: "10.0.0.1:3232", wanted: "new", found: "old" },
  notVerified: { kind: "not-verified", address: "10.0.0.1:3232", detail: "no answer", effect: "committed" },
  wrongDevice: { kind: "wrong-device", address: "10.0.0.1:3232", wanted: "kitchen", found: "cellar" },
  internal: { kind: "internal", detail: "a bug" },
} as const satisfies Record<string, Failure>;
