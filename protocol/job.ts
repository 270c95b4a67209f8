/**
 * The words of the farm, and the life of a job.
 *
 * - **device**: a microcontroller; **configuration**: its YAML file, the key of a device.
 * - **job**: one piece of work on one lane: `compile`, `upload`, `confirm`, which asks the device again a minute after its flash, or
 *   `clean`, which takes build trees away. **chain**: jobs with prerequisites, kept as one record; a job whose
 *   **prerequisite** has not succeeded is **held**, the job that waits for it is its **dependent**.
 * - **lane**: `compile` or `upload`; **slot**: one unit of a lane on one agent; **agent**: a process that works lanes.
 * - **announcement**: an agent's statement of its slots and since when they are idle.
 * - **dispatch**: the coordinator assigns a queued job to a slot; **claim**: the agent asks whether that still holds;
 *   **attempt**: counts the dispatches of a job, and with the agent's id fences its claims and reports.
 * - **flash claim**: the coordinator's committed word that the first byte may be sent, given once per job.
 * - **bundle**: a configuration with everything it includes; **artifact**: firmware images with a **manifest**;
 *   **digest**: SHA-256. **outcome**: how a job ended.
 */
import { z } from "zod";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { Failure } from "#protocol/failure.ts";
import { secretTextMax } from "#protocol/limits.ts";
import { Route } from "#protocol/route.ts";
import { PortId, SerialTool } from "#protocol/serial.ts";
import { UploadTiming } from "#protocol/timing.ts";
import { AgentId, BootId, ChainId, Digest, JobName, Label } from "#protocol/ids.ts";

export const Lane = z.enum(["compile", "upload"]);
export type Lane = z.infer<typeof Lane>;

export const JobState = z.enum([
  "held",
  "queued",
  "dispatched",
  "running",
  "cancelling",
  "succeeded",
  "failed",
  "cancelled",
  "unknown",
]);
export type JobState = z.infer<typeof JobState>;

/** Every legal step of a job. `docs/state-machine.md` draws this table. */
export const nextStates: Readonly<Record<JobState, readonly JobState[]>> = {
  held: ["queued", "cancelled", "failed"],
  queued: ["dispatched", "cancelled", "succeeded", "failed", "unknown"],
  dispatched: ["running", "queued", "cancelling", "cancelled", "failed"],
  running: ["succeeded", "failed", "cancelled", "unknown", "cancelling", "queued"],
  cancelling: ["cancelled", "succeeded", "failed", "unknown", "queued"],
  succeeded: [],
  failed: [],
  cancelled: [],
  unknown: ["succeeded", "failed"],
};

/** A terminal job never changes, except that `unknown` is resolved by asking the device or by a person. */
export function isTerminal(state: JobState): boolean {
  return state === "succeeded" || state === "failed" || state === "cancelled" || state === "unknown";
}

/** Where a running upload stands; only progress, except that `flashing` follows the flash claim. */
export const UploadPhase = z.enum(["fetching", "checking", "flashing", "verifying"]);
export type UploadPhase = z.infer<typeof UploadPhase>;

export const EsphomeVersion = z
  .string()
  .regex(/^\d{4}\.\d{1,2}\.\d{1,2}(b\d+)?$/, "an ESPHome version looks like 2026.10.0");

/** Builds with ESPHome in a virtual environment of exactly this version. */
export const EsphomeBuildSpec = z.object({
  driver: z.literal("esphome"),
  version: EsphomeVersion,
  bundle: Digest,
  /** The configuration's path inside the bundle. */
  entry: z.string().min(1).max(200),
  /** `host`, `esp32`, …: what agents are pinned to, and durations are learned for. Absent in older records. */
  platform: z.string().max(40).optional(),
  /** Keep the ELF with its debug symbols as well. */
  keepsDebug: z.boolean().optional(),
});
export type EsphomeBuildSpec = z.infer<typeof EsphomeBuildSpec>;

/** Builds with any command; the artifact is what the globs match afterwards. */
export const CommandBuildSpec = z.object({
  driver: z.literal("command"),
  bundle: Digest,
  argv: z.array(z.string().min(1).max(4096)).min(1).max(64),
  artifacts: z.array(z.string().min(1).max(200)).min(1).max(16),
  platform: z.string().max(40).default("generic"),
});
export type CommandBuildSpec = z.infer<typeof CommandBuildSpec>;

export const BuildSpec = z.discriminatedUnion("driver", [EsphomeBuildSpec, CommandBuildSpec]);
export type BuildSpec = z.infer<typeof BuildSpec>;

/** ESPHome's native API of a device, asked before and after a flash which build runs. */
export const ApiTarget = z.object({
  port: z.number().int().min(1).max(65535),
  encryptionKey: z.string().max(secretTextMax).optional(),
});
export type ApiTarget = z.infer<typeof ApiTarget>;

/** What carries a flash. Of `thread` and `serial` each segment (a border router, a port) carries one at a time. */
export const Medium = z.object({
  kind: z.enum(["wifi", "ethernet", "thread", "serial"]),
  segment: z.string().min(1).max(120).optional(),
});
export type Medium = z.infer<typeof Medium>;

/** The medium as people write it, and as durations are learned for it: `wifi`, `thread:hall`. */
export function mediumName({ kind, segment }: Medium): string {
  return segment === undefined ? kind : `${kind}:${segment}`;
}

/** True for a medium whose segments carry one flash at a time. */
export function isScarce({ kind }: Medium): boolean {
  return kind === "thread" || kind === "serial";
}

/**
 * Whether an upload over the air is encrypted. `require`: nothing of the image, and no password, goes to a device that does not
 * offer it; `opportunistic`: where the device offers it, and in plaintext otherwise, which the job's log says; `never`.
 */
export const OtaEncryption = z.enum(["require", "opportunistic", "never"]);
export type OtaEncryption = z.infer<typeof OtaEncryption>;

/** Where and how a device is flashed over the air. `password` and the keys are secrets: sealed, never logged, never shown. */
export const OtaTarget = z.object({
  kind: z.literal("ota"),
  /** Host name or address, without port. */
  host: z.string().min(1).max(255),
  port: z.number().int().min(1).max(65535),
  password: z.string().max(secretTextMax).optional(),
  /** Absent in older records, where `encrypted` alone decides. */
  encryption: OtaEncryption.optional(),
  /** True where encryption is required: what an older upload agent goes by, and refuses. */
  encrypted: z.boolean().default(false),
  /** `ota: encryption: key:`, 32 bytes in base64; where it is absent, that of the API is taken. */
  encryptionKey: z.string().max(secretTextMax).optional(),
  api: ApiTarget.optional(),
  /** `esphome: name:`; the device must report this name. */
  name: z.string().min(1).max(120),
  /** A rename: the name that the device reports until it runs the new build, which names it `name`. */
  formerName: z.string().min(1).max(120).optional(),
  /** A rename: where the device is asked once it runs the new build, when its address follows its name. */
  hostAfter: z.string().min(1).max(255).optional(),
  /** Known MAC address, `AA:BB:CC:DD:EE:FF`; the device must report this one when it is given. */
  mac: z.string().optional(),
  /** Absent: unknown, and taken for Wi-Fi. */
  medium: Medium.optional(),
});
export type OtaTarget = z.infer<typeof OtaTarget>;

/** How an upload to this target is encrypted, and with which key. */
export function encryptionOf(target: OtaTarget): { readonly policy: OtaEncryption; readonly key: string | undefined } {
  const policy = target.encryption ?? (target.encrypted ? "require" : "never");
  return { policy, key: target.encryptionKey ?? target.api?.encryptionKey };
}

/** The target with another policy, as a person asks for it. */
export function withEncryption(target: OtaTarget, encryption: OtaEncryption): OtaTarget {
  return { ...target, encryption, encrypted: encryption === "require" };
}

/** Where and how a device is flashed over a port. */
export const SerialTarget = z.object({
  kind: z.literal("serial"),
  port: PortId,
  tool: SerialTool,
  /** `esphome: name:`, or what the owner calls it. */
  name: z.string().min(1).max(120),
  /** The chip's own address, `AA:BB:CC:DD:EE:FF`; it must be this one when it is given. */
  mac: z.string().optional(),
  /** `name_add_mac_suffix`: the configuration is that of several devices, so that none of their addresses is held against another. */
  isOneOfMany: z.boolean().optional(),
  /** Where the device is asked which build it runs, once it is on the network. */
  network: OtaTarget.optional(),
});
export type SerialTarget = z.infer<typeof SerialTarget>;

export const UploadTarget = z.discriminatedUnion("kind", [OtaTarget, SerialTarget]);
export type UploadTarget = z.infer<typeof UploadTarget>;

/** Where people find the device of a target: `192.168.1.20:3232`, `[fd00::1]:3232`, or the port's name. */
export function addressOfTarget(target: UploadTarget): string {
  if (target.kind === "serial") return target.port;
  return target.host.includes(":") ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`;
}

/** Where a device can be asked which build it runs; undefined for one that is on no network. */
export function networkOf(target: UploadTarget): OtaTarget | undefined {
  return target.kind === "ota" ? target : target.network;
}

/** What carries the flash of a target. */
export function mediumOf(target: UploadTarget): Medium {
  if (target.kind === "serial") return { kind: "serial", segment: target.port };
  return target.medium ?? { kind: "wifi" };
}

/** What a device says of itself over the native API. */
export const DeviceReport = z.object({
  name: z.string(),
  mac: z.string(),
  compilationTime: z.string(),
  esphomeVersion: z.string(),
});
export type DeviceReport = z.infer<typeof DeviceReport>;

/**
 * `committed`: the device acknowledged the image; `running`: it says itself that it runs this build (the chain's confirm job asks it
 * again); `told`: nobody could ask the device, and a person said that it does.
 */
export const SuccessLevel = z.enum(["committed", "running", "told"]);
export type SuccessLevel = z.infer<typeof SuccessLevel>;

export const CancelCause = z.enum([
  "request",
  "superseded",
  /** Its build tree, or all of them, are taken away. */
  "clean",
  "reset",
  "prerequisite-failed",
  "prerequisite-cancelled",
  "prerequisite-unknown",
  /** A confirmation: nobody can ask the device what it runs. */
  "not-askable",
  /** A confirmation: another image goes to the device. */
  "flashed-again",
  "rollout-aborted",
  "restored",
]);
export type CancelCause = z.infer<typeof CancelCause>;

/**
 * A part of an ESP32's flash that goes over the air besides the application. Only where a person names it: a device that fails
 * while it writes one of these does not start again.
 */
export const UpdatePart = z.enum(["bootloader", "partition-table"]);
export type UpdatePart = z.infer<typeof UpdatePart>;

/** How a build and a flash succeed, as reported and as recorded; `buildMs` and `flashMs` are wall time. */
const Built = z.object({
  kind: z.literal("built"),
  manifest: ArtifactManifest,
  /** From the start of the job until its slot was free again: images are sent after that. */
  buildMs: z.number(),
  /** Whether the build tree was there already. */
  isWarm: z.boolean().optional(),
  /** The chain that has built it, when this one did not have to. */
  reusedFrom: ChainId.optional(),
});
const Flashed = z.object({
  kind: z.literal("flashed"),
  level: SuccessLevel,
  /** False when the device already ran this build and was left alone. */
  wrote: z.boolean(),
  flashMs: z.number(),
  report: DeviceReport.optional(),
  /** The address that the chip at the port told esptool, `AA:BB:CC:DD:EE:FF`. */
  chipMac: z.string().optional(),
});
/** The device still ran the build some time after its flash. */
const Confirmed = z.object({ kind: z.literal("confirmed"), report: DeviceReport.optional() });
const Failed = z.object({ kind: z.literal("failed"), failure: Failure });
/** Build trees that were there and are gone. */
const Cleaned = z.object({ kind: z.literal("cleaned"), trees: z.number().int().nonnegative() });

/** How an attempt ended, in the agent's words; `stopped` by order: everything that it had started is dead. */
export const JobResult = z.discriminatedUnion("kind", [
  Built,
  Flashed,
  Confirmed,
  Cleaned,
  Failed,
  z.object({ kind: z.literal("stopped") }),
]);
export type JobResult = z.infer<typeof JobResult>;

/** How a job ended. */
export const Outcome = z.discriminatedUnion("kind", [
  Built,
  Flashed,
  Confirmed,
  Cleaned,
  Failed,
  /** `backupAt`: `restored` from a backup of this instant, in which it was live. */
  z.object({ kind: z.literal("cancelled"), cause: CancelCause, backupAt: z.number().optional() }),
]);
export type Outcome = z.infer<typeof Outcome>;

/** One life of a job on one agent; with the attempt it fences claims and reports. */
export const Assignment = z.object({ agent: AgentId, boot: BootId });
export type Assignment = z.infer<typeof Assignment>;

const JobCommon = {
  state: JobState,
  /** Number of dispatches so far; 0 before the first. */
  attempt: z.number().int().nonnegative(),
  /** Present from `dispatched` on; kept in the terminal states to say where it ran. */
  assigned: Assignment.optional(),
  /** Not to be dispatched before this instant (back-off, or the wait before a lost flash is probed). */
  notBeforeAt: z.number().optional(),
  queuedAt: z.number().optional(),
  dispatchedAt: z.number().optional(),
  startedAt: z.number().optional(),
  endedAt: z.number().optional(),
  outcome: Outcome.optional(),
  /** Agents on which it failed in a way that another machine may not share. */
  avoid: z.array(AgentId).max(64).default([]),
  /** Failures of earlier attempts, newest last, at most 8. */
  earlier: z.array(Failure).max(8).default([]),
} as const;

export const CompileJob = z.object({
  lane: z.literal("compile"),
  name: z.literal("compile"),
  spec: BuildSpec,
  route: Route.optional(),
  /** A person asked for a build even where an equal one is at hand. */
  isRebuild: z.boolean().optional(),
  ...JobCommon,
});
export type CompileJob = z.infer<typeof CompileJob>;

export const UploadJob = z.object({
  lane: z.literal("upload"),
  name: z.literal("upload"),
  spec: z.object({
    target: UploadTarget,
    /** Given when the chain has no compile job; otherwise the compile job's outcome is flashed. */
    manifest: ArtifactManifest.optional(),
    /** The agent that must do it, where the user named one. */
    on: AgentId.optional(),
    /** Labels that its agent must carry. */
    labels: z.array(Label).max(8).optional(),
    timing: UploadTiming.optional(),
    /** A person asked for this build, also where the device runs a newer release of ESPHome. */
    mayDowngrade: z.boolean().optional(),
    /** Absent: the application. */
    part: UpdatePart.optional(),
  }),
  /** The committed flash claim; at most one in the life of the job. */
  flashClaim: z.object({ attempt: z.number().int(), at: z.number() }).optional(),
  /** `probe`: the next attempt only asks the device which build runs, because an earlier one may have flashed. */
  mode: z.enum(["flash", "probe"]).default("flash"),
  ...JobCommon,
});
export type UploadJob = z.infer<typeof UploadJob>;

/**
 * Asks a device that has been flashed once more which build it runs: an ESP32 goes back to the build before when the new one does
 * not live for a minute. Held until then.
 */
export const ConfirmJob = z.object({
  lane: z.literal("upload"),
  name: z.literal("confirm"),
  /** From the end of the upload. */
  spec: z.object({ afterMs: z.number().int().nonnegative() }),
  ...JobCommon,
});
export type ConfirmJob = z.infer<typeof ConfirmJob>;

/** Takes build trees away on one agent: that of the chain's configuration, or all. */
export const CleanJob = z.object({
  lane: z.literal("compile"),
  name: z.literal("clean"),
  spec: z.object({ on: AgentId, trees: z.enum(["configuration", "all"]) }),
  ...JobCommon,
});
export type CleanJob = z.infer<typeof CleanJob>;

export const Job = z.discriminatedUnion("name", [CompileJob, UploadJob, ConfirmJob, CleanJob]);
export type Job = z.infer<typeof Job>;

/** Where a job may run, whatever its kind. */
export function routeOf(job: Job): Route {
  switch (job.name) {
    case "compile":
      return job.route ?? { labels: [] };
    case "confirm":
      return { labels: [] };
    case "upload":
    case "clean": {
      const { on } = job.spec;
      const labels = job.name === "upload" ? (job.spec.labels ?? []) : [];
      return on === undefined ? { labels } : { on, labels };
    }
  }
}

/** The lane that works jobs of a name. */
export const laneOf: Readonly<Record<JobName, Lane>> = {
  compile: "compile",
  upload: "upload",
  confirm: "upload",
  clean: "compile",
};

export { JobName };
