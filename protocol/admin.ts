/** Every request that the CLI makes of the coordinator, and what it answers. */
import { z } from "zod";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { Announcement } from "#protocol/agent.ts";
import { Chain, ChainKind, Priority } from "#protocol/chain.ts";
import { AgentId, ChainId, Configuration, JobName, Label } from "#protocol/ids.ts";
import { BuildSpec, OtaTarget, Route } from "#protocol/job.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";
import { Progress } from "#protocol/messages.ts";
import { BuildRecord } from "#protocol/records.ts";

/** A chain as it is asked for. The id comes from the asker, so that asking twice is asking once. */
export const ChainRequest = z.object({
  id: ChainId,
  kind: ChainKind,
  configuration: Configuration,
  build: BuildSpec.optional(),
  /** Where it is built. */
  route: Route.optional(),
  /** Build, even where an equal build is at hand. */
  isRebuild: z.boolean().optional(),
  upload: z
    .object({
      target: OtaTarget,
      manifest: ArtifactManifest.optional(),
      on: AgentId.optional(),
      labels: z.array(Label).max(8).optional(),
    })
    .optional(),
  priority: Priority.optional(),
  /** Of a rename: the name before. */
  renamedFrom: Configuration.optional(),
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
  /** A configuration means all its live chains, `all` every live chain of the farm. */
  z.object({
    v: z.literal(1),
    kind: z.literal("cancel"),
    of: z.union([z.object({ reference: Reference }), z.object({ all: z.literal(true) })]),
  }),
  /** Takes the build tree of a configuration away on every agent that has one; `id` is that of the first chain. */
  z.object({ v: z.literal(1), kind: z.literal("clean"), id: ChainId, configuration: Configuration }),
  /** Ends all work and takes every build tree away. */
  z.object({ v: z.literal(1), kind: z.literal("reset"), id: ChainId }),
  /** A person says what an upload that ended as `unknown` has left on its device. */
  z.object({ v: z.literal(1), kind: z.literal("resolve-device"), reference: Reference, isRunning: z.boolean() }),
  /** Finished chains, newest first: of everything, or of one configuration; `failed`: only those that did not succeed. */
  z.object({
    v: z.literal(1),
    kind: z.literal("history"),
    configuration: Configuration.optional(),
    isFailed: z.boolean().default(false),
    /** How many of them are known already. */
    skip: z.number().int().nonnegative().optional(),
    limit: z.number().int().min(1).max(1000),
  }),
  /**
   * Live chains in the order of their ids, and with `ended` the newest finished ones as well; `only` asks for these chains, live or
   * ended.
   */
  z.object({
    v: z.literal(1),
    kind: z.literal("chains"),
    /** Live chains behind this one. */
    after: ChainId.optional(),
    ended: z.number().int().min(0).max(1000),
    only: z.array(ChainId).max(chainsPerRequestMax).optional(),
  }),
  z.object({ v: z.literal(1), kind: z.literal("resolve"), reference: Reference }),
  z.object({ v: z.literal(1), kind: z.literal("agents") }),
  /** A drained agent ends what it has and gets nothing new, until it is undrained. */
  z.object({ v: z.literal(1), kind: z.literal("drain"), agent: AgentId, isDrained: z.boolean() }),
  /** Builds that equal requests would use. */
  z.object({ v: z.literal(1), kind: z.literal("cache") }),
  /** Forgets builds before an instant (ms since 1970), and deletes bundles and artifacts of no use to anybody. */
  z.object({ v: z.literal(1), kind: z.literal("prune-cache"), before: z.number() }),
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
  isDrained: z.boolean().default(false),
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

/** What a cancel did to one chain. */
export const CancelVerdict = z.object({
  chain: ChainId,
  configuration: Configuration,
  jobs: z.array(JobName),
  /** Uploads whose flash claim was committed first: they go on to their end. */
  tooLate: z.array(JobName),
});
export type CancelVerdict = z.infer<typeof CancelVerdict>;

export const AdminAnswer = z.discriminatedUnion("kind", [
  /** Committed: what this names is never lost. `superseded` lists the chains that gave way. */
  z.object({
    kind: z.literal("accepted"),
    chains: z.array(ChainId),
    superseded: z.array(ChainId),
    /** Of a clean or reset: build machines that are away and keep their trees. */
    away: z.array(AgentId).optional(),
  }),
  /** Committed: each chain with the jobs that are cancelled or on their way to it; empty for one that was over. */
  z.object({ kind: z.literal("cancelling"), chains: z.array(CancelVerdict) }),
  z.object({ kind: z.literal("device-resolved"), chain: Chain }),
  /** `isCut`: the message was full, and what stands last was left out. */
  z.object({
    kind: z.literal("chains"),
    live: z.array(ChainView),
    ended: z.array(Chain),
    isCut: z.boolean().optional(),
  }),
  z.object({ kind: z.literal("resolved"), chain: Chain, job: JobName.optional() }),
  z.object({ kind: z.literal("agents"), agents: z.array(AgentView) }),
  z.object({ kind: z.literal("drained"), agent: AgentId, isDrained: z.boolean(), busy: z.number().int() }),
  z.object({ kind: z.literal("cache"), builds: z.array(BuildRecord) }),
  z.object({
    kind: z.literal("cache-pruned"),
    builds: z.number().int(),
    objects: z.number().int(),
    bytes: z.number(),
  }),
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
