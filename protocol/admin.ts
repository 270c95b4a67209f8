/** Every request that the CLI makes of the coordinator, and what it answers. */
import { z } from "zod";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { Announcement } from "#protocol/agent.ts";
import { Chain, ChainKind } from "#protocol/chain.ts";
import { AgentId, ChainId, Configuration, JobName } from "#protocol/ids.ts";
import { BuildSpec, OtaTarget } from "#protocol/job.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";
import { Progress } from "#protocol/messages.ts";

/** A chain as it is asked for. The id comes from the asker, so that asking twice is asking once. */
export const ChainRequest = z.object({
  id: ChainId,
  kind: ChainKind,
  configuration: Configuration,
  build: BuildSpec.optional(),
  upload: z.object({ target: OtaTarget, manifest: ArtifactManifest.optional(), on: AgentId.optional() }).optional(),
});
export type ChainRequest = z.infer<typeof ChainRequest>;

/** What the user names: a chain id, `<chain>.<job>`, a configuration, or `<configuration>.<job>`. */
const Reference = z.string().min(1).max(200);

export const AdminRequest = z.discriminatedUnion("kind", [
  z.object({
    v: z.literal(1),
    kind: z.literal("submit"),
    chains: z.array(ChainRequest).min(1).max(chainsPerRequestMax),
  }),
  z.object({ v: z.literal(1), kind: z.literal("cancel"), reference: Reference }),
  /** Live chains, and with `ended` the newest finished ones as well; `only` asks for these chains, live or ended. */
  z.object({
    v: z.literal(1),
    kind: z.literal("chains"),
    ended: z.number().int().min(0).max(1000),
    only: z.array(ChainId).max(chainsPerRequestMax).optional(),
  }),
  z.object({ v: z.literal(1), kind: z.literal("resolve"), reference: Reference }),
  z.object({ v: z.literal(1), kind: z.literal("agents") }),
  z.object({ v: z.literal(1), kind: z.literal("devices") }),
  z.object({ v: z.literal(1), kind: z.literal("explain"), reference: Reference }),
  /** The newest build of what is named that has succeeded. */
  z.object({ v: z.literal(1), kind: z.literal("newest-build"), reference: Reference }),
  z.object({ v: z.literal(1), kind: z.literal("status") }),
]);
export type AdminRequest = z.infer<typeof AdminRequest>;

export const ChainView = z.object({
  chain: Chain,
  /** Newest progress of the running job, when the coordinator has heard any since it started. */
  progress: Progress.optional(),
});
export type ChainView = z.infer<typeof ChainView>;

export const AgentView = z.object({
  announcement: Announcement,
  /** Jobs that the records assign to it. */
  busy: z.number().int(),
  online: z.boolean(),
  seenAt: z.number(),
});
export type AgentView = z.infer<typeof AgentView>;

/** What the farm knows of a device from its last finished chain with an upload. */
export const DeviceRecord = z.object({
  v: z.literal(1),
  configuration: Configuration,
  chain: ChainId,
  at: z.number(),
  state: z.string(),
  address: z.string(),
  level: z.string().optional(),
  build: z.string().optional(),
  mac: z.string().optional(),
  esphomeVersion: z.string().optional(),
});
export type DeviceRecord = z.infer<typeof DeviceRecord>;

export const AdminAnswer = z.discriminatedUnion("kind", [
  /** Committed: what this names is never lost. `superseded` lists the chains that gave way. */
  z.object({ kind: z.literal("accepted"), chains: z.array(ChainId), superseded: z.array(ChainId) }),
  z.object({ kind: z.literal("cancelling"), chain: ChainId, jobs: z.array(JobName), tooLate: z.array(JobName) }),
  z.object({ kind: z.literal("chains"), live: z.array(ChainView), ended: z.array(Chain) }),
  z.object({ kind: z.literal("resolved"), chain: Chain, job: JobName.optional() }),
  z.object({ kind: z.literal("agents"), agents: z.array(AgentView) }),
  z.object({ kind: z.literal("devices"), devices: z.array(DeviceRecord) }),
  z.object({ kind: z.literal("explained"), chain: ChainId, lines: z.array(z.string()) }),
  z.object({
    kind: z.literal("newest-build"),
    chain: ChainId,
    configuration: Configuration,
    manifest: ArtifactManifest,
    builtAt: z.number(),
  }),
  z.object({
    kind: z.literal("status"),
    version: z.string(),
    /** The coordinator's wall clock as it answers (ms since 1970). */
    at: z.number(),
    since: z.number(),
    live: z.number(),
    queueDepth: z.number(),
  }),
  z.object({ kind: z.literal("refused"), code: z.string(), message: z.string() }),
]);
export type AdminAnswer = z.infer<typeof AdminAnswer>;
