/** Every request that the CLI makes of the coordinator, and what it answers. */
import { z } from "zod";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { Announcement } from "#protocol/agent.ts";
import { StatedBy } from "#protocol/audit.ts";
import { Chain, ChainKind, Priority } from "#protocol/chain.ts";
import { AgentId, ChainId, Configuration, Digest, JobName, Label } from "#protocol/ids.ts";
import { BuildSpec, Lane, UpdatePart, UploadTarget } from "#protocol/job.ts";
import { Route } from "#protocol/route.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";
import { Progress } from "#protocol/messages.ts";
import { ObjectStoreName } from "#protocol/objects.ts";
import { AgentIdentity, CodeHash, InvitationId, PairedAgent, UserKey } from "#protocol/pairing.ts";
import { BuilderStanding } from "#protocol/provenance.ts";
import { BuildRecord, DeviceNote } from "#protocol/records.ts";
import { RolloutAction, RolloutPart, RolloutView } from "#protocol/rollout.ts";
import { UploadTiming } from "#protocol/timing.ts";

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
      target: UploadTarget,
      manifest: ArtifactManifest.optional(),
      on: AgentId.optional(),
      labels: z.array(Label).max(8).optional(),
      timing: UploadTiming.optional(),
      mayDowngrade: z.boolean().optional(),
      part: UpdatePart.optional(),
      /** The device is asked once more so long after its flash (ms). Absent: it is not. */
      confirmAfterMs: z.number().int().min(0).max(3_600_000).optional(),
    })
    .optional(),
  rollout: RolloutPart.optional(),
  /** One of many that nobody named one by one: refused for a device that is on hold. */
  isBulk: z.boolean().optional(),
  priority: Priority.optional(),
  /** Of a rename: the name before. */
  renamedFrom: Configuration.optional(),
});
export type ChainRequest = z.infer<typeof ChainRequest>;

/** What the user names: a chain id, `<chain>.<job>`, a configuration, or `<configuration>.<job>`. */
const Reference = z.string().min(1).max(200);

/** Who may be an agent. */
const PairingRequests = [
  /** Lets an agent in whose keys the asker has seen made: pairs it, and signs it in. */
  z.object({ v: z.literal(1), kind: z.literal("enrol-agent"), ...AgentIdentity.shape }),
  /** A machine that knows the code may join, once. */
  z.object({
    v: z.literal(1),
    kind: z.literal("make-invitation"),
    id: InvitationId,
    hash: CodeHash,
    validMs: z.number().int().min(1_000).max(86_400_000),
    isUnattended: z.boolean(),
    lane: Lane.optional(),
    agent: AgentId.optional(),
  }),
  z.object({ v: z.literal(1), kind: z.literal("pairings") }),
  /** About the machine that has used a code with this key, and waits. */
  z.object({ v: z.literal(1), kind: z.literal("decide-pairing"), user: UserKey, isApproved: z.boolean() }),
  /** Ends an agent's right to connect, for good. */
  z.object({ v: z.literal(1), kind: z.literal("revoke-agent"), agent: AgentId }),
] as const;
const PairingRequest = z.discriminatedUnion("kind", PairingRequests);
export type PairingRequest = z.infer<typeof PairingRequest>;

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
    /** Also a flash over a port that has begun: its device is left without a build that starts. */
    isForced: z.boolean().optional(),
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
  ...PairingRequests,
  /** What an agent has built; `isBlocked` decides whether any of it may be flashed or used again. */
  z.object({ v: z.literal(1), kind: z.literal("agent-artifacts"), agent: AgentId, isBlocked: z.boolean().optional() }),
  /** What the key of a stored content follows from; a person may read and store any. */
  z.object({ v: z.literal(1), kind: z.literal("content-secret"), store: ObjectStoreName, digest: Digest }),
  /** Builds that equal requests would use. */
  z.object({ v: z.literal(1), kind: z.literal("cache") }),
  /** Forgets builds before an instant (ms since 1970), and deletes bundles and artifacts of no use to anybody. */
  z.object({ v: z.literal(1), kind: z.literal("prune-cache"), before: z.number() }),
  z.object({ v: z.literal(1), kind: z.literal("devices") }),
  /** No bulk flashes a device that is on hold. */
  z.object({
    v: z.literal(1),
    kind: z.literal("hold-device"),
    configuration: Configuration,
    isHeld: z.boolean(),
    reason: z.string().max(200).optional(),
  }),
  /** The configuration's device may be another one from now on: its address (MAC) is forgotten. */
  z.object({ v: z.literal(1), kind: z.literal("forget-device"), configuration: Configuration }),
  /** Rollouts that are not over, or the one that is named, also an old one. */
  z.object({ v: z.literal(1), kind: z.literal("rollouts"), id: ChainId.optional() }),
  z.object({ v: z.literal(1), kind: z.literal("change-rollout"), id: ChainId, action: RolloutAction }),
  z.object({ v: z.literal(1), kind: z.literal("explain"), reference: Reference }),
  /** The newest build of what is named that has succeeded. */
  z.object({ v: z.literal(1), kind: z.literal("newest-build"), reference: Reference }),
  /** The newest build with an image of this digest. */
  z.object({ v: z.literal(1), kind: z.literal("build-of-image"), digest: Digest }),
  /** How the farm knows the key with which an agent has signed a build. */
  z.object({ v: z.literal(1), kind: z.literal("builder-key"), agent: AgentId, user: UserKey }),
  /** The newest build that the device is known to have run well, and that is not the one it was flashed with last. */
  z.object({ v: z.literal(1), kind: z.literal("last-good-build"), configuration: Configuration }),
  z.object({ v: z.literal(1), kind: z.literal("status") }),
]);
export type AdminRequest = z.infer<typeof AdminRequest>;

/** A request with who states to ask it; what they are proven to be is the last part of the subject. */
export const StatedRequest = z.intersection(AdminRequest, z.object({ by: StatedBy.optional() }));
export type StatedRequest = z.infer<typeof StatedRequest>;

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
  /** What the device says of itself; of one that has never said it, what its chip told esptool. */
  mac: z.string().optional(),
  /** What its chip told esptool: another address than `mac` where the owner has burnt one of his own into the chip. */
  chipMac: z.string().optional(),
  esphomeVersion: z.string().optional(),
  /** The name that it says of itself. */
  name: z.string().optional(),
  /** The agent that flashed it. */
  agent: AgentId.optional(),
  /** Its last flash over a port was cut off: it needs another one. */
  needsFlash: z.boolean().optional(),
});
export type DeviceRecord = z.infer<typeof DeviceRecord>;

/** Something that an agent has built. */
export const AgentBuild = z.object({
  chain: ChainId,
  configuration: Configuration,
  at: z.number(),
  images: z.array(Digest),
});
export type AgentBuild = z.infer<typeof AgentBuild>;

/** A machine that has used a code and waits for a person. */
export const GuestView = z.object({
  ...AgentIdentity.shape,
  askedAt: z.number(),
  until: z.number(),
  /** The machine that has its name now, and would lose it. */
  replaces: z.string().optional(),
});
export type GuestView = z.infer<typeof GuestView>;

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
  /** `expiresAt`: when the token ends (ms since 1970). */
  z.object({ kind: z.literal("enrolled"), token: z.string(), expiresAt: z.number() }),
  /** 32 bytes in base64. */
  z.object({ kind: z.literal("content-secret"), secret: z.base64().length(44) }),
  z.object({ kind: z.literal("invitation-made"), expiresAt: z.number() }),
  z.object({
    kind: z.literal("pairings"),
    paired: z.array(PairedAgent),
    guests: z.array(GuestView),
    /** Codes that nobody has used yet. */
    open: z.number().int(),
  }),
  z.object({
    kind: z.literal("agent-artifacts"),
    agent: AgentId,
    /** Newest first. */
    builds: z.array(AgentBuild),
    isBlocked: z.boolean(),
  }),
  z.object({ kind: z.literal("pairing-decided"), agent: AgentId, isApproved: z.boolean() }),
  /** `isCut`: the servers know of it; otherwise they will be told as soon as they can be. */
  z.object({ kind: z.literal("agent-revoked"), agent: AgentId, isCut: z.boolean() }),
  z.object({ kind: z.literal("cache"), builds: z.array(BuildRecord) }),
  z.object({
    kind: z.literal("cache-pruned"),
    builds: z.number().int(),
    objects: z.number().int(),
    bytes: z.number(),
  }),
  z.object({
    kind: z.literal("devices"),
    devices: z.array(DeviceRecord),
    notes: z.array(DeviceNote).optional(),
    /** Names that several devices claim, with their addresses (MAC), as the agents hear them in the network. */
    twins: z.array(z.object({ name: z.string(), macs: z.array(z.string()) })).optional(),
  }),
  z.object({ kind: z.literal("device-noted"), note: DeviceNote }),
  z.object({ kind: z.literal("device-forgotten"), configuration: Configuration, wasKnown: z.boolean() }),
  z.object({ kind: z.literal("rollouts"), rollouts: z.array(RolloutView) }),
  z.object({ kind: z.literal("explained"), chain: ChainId, lines: z.array(z.string()) }),
  z.object({
    kind: z.literal("newest-build"),
    chain: ChainId,
    configuration: Configuration,
    manifest: ArtifactManifest,
    builtAt: z.number(),
  }),
  z.object({ kind: z.literal("builder-key"), standing: BuilderStanding }),
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
