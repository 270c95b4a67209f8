/** What agents say of themselves. */
import { z } from "zod";
import { AgentId, BootId, ChainId, Configuration, JobName, Label } from "#protocol/ids.ts";
import { EsphomeVersion, Lane } from "#protocol/job.ts";
import { FlasherName, SerialPortView } from "#protocol/serial.ts";

/** A job as an agent holds it in its hands. */
export const HeldJob = z.object({
  chain: ChainId,
  job: JobName,
  attempt: z.number().int(),
  /** It has given its slot back: the build is done, and its images are on their way to the store. */
  isStoring: z.boolean().optional(),
});
export type HeldJob = z.infer<typeof HeldJob>;

/** A statement is made each second; with this many trees it has 70 kB. */
export const warmTreesMax = 1_000;

/** A build tree on an agent: an unchanged or slightly changed build takes a second in it. */
export const WarmTree = z.object({
  version: z.string(),
  configuration: Configuration,
  bytes: z.number().int().nonnegative().optional(),
  usedAt: z.number().optional(),
});
export type WarmTree = z.infer<typeof WarmTree>;

/** What a compile lane can build. */
export const CompileCapabilities = z.object({
  /** ESPHome versions whose environment is ready; others are made on demand when `makesEnvironments`. */
  esphomeVersions: z.array(z.string()),
  makesEnvironments: z.boolean(),
  /** Versions of the Pythons found here, best first. */
  pythons: z.array(z.string()),
  cpus: z.number().int(),
  memoryBytes: z.number().int(),
  /** The only ESPHome versions, and the only platforms, that its owner lets it build; absent: any. */
  pinnedVersions: z.array(EsphomeVersion).max(32).optional(),
  pinnedPlatforms: z.array(z.string().max(40)).max(32).optional(),
  /** Operating system and processor, e.g. `linux-x64`. */
  environment: z.string().max(40).optional(),
  /** Absent in statements of agents that know no sandbox. Text, so that a coordinator can read a newer agent's. */
  sandbox: z.string().max(40).optional(),
  warm: z.array(WarmTree).max(warmTreesMax).default([]),
});
export type CompileCapabilities = z.infer<typeof CompileCapabilities>;

/** What an upload lane reaches and can do. */
export const UploadCapabilities = z.object({
  ports: z.array(SerialPortView).max(64).default([]),
  /** Commands that its owner allows by name. */
  flashers: z.array(FlasherName).max(32).default([]),
});
export type UploadCapabilities = z.infer<typeof UploadCapabilities>;

/**
 * An agent's statement, published at each change and once a second as its presence. `holding` is the whole truth of what
 * this boot works on: a dispatched or running job of this agent that is missing from a later boot's statement is lost.
 */
export const Announcement = z.object({
  v: z.literal(1),
  agent: AgentId,
  boot: BootId,
  lane: Lane,
  labels: z.array(Label).max(32).optional(),
  slots: z.number().int().min(0).max(256),
  /** Since when at least one slot is idle (ms since 1970); null while all are taken. */
  idleSince: z.number().nullable(),
  holding: z.array(HeldJob).max(1024),
  compile: CompileCapabilities.optional(),
  upload: UploadCapabilities.optional(),
  version: z.string(),
  host: z.string(),
  pid: z.number().int(),
});
export type Announcement = z.infer<typeof Announcement>;
