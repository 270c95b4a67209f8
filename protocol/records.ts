/** What the farm remembers beside its chains: how long things take, what has been built, what a person has said of an agent. */
import { z } from "zod";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { AgentId, ChainId, Configuration, Digest } from "#protocol/ids.ts";

/** A moving mean of `count` measurements, in ms. */
export const Estimate = z.object({ ms: z.number().nonnegative(), count: z.number().int().positive() });
export type Estimate = z.infer<typeof Estimate>;

/** How long the jobs of one configuration took. */
export const DurationRecord = z.object({
  v: z.literal(1),
  configuration: Configuration,
  at: z.number(),
  platform: z.string(),
  /** Builds without and with their tree. */
  cold: Estimate.optional(),
  warm: Estimate.optional(),
  /** Flashes that wrote, by the name of their medium (`mediumName`). */
  uploads: z.record(z.string(), Estimate),
});
export type DurationRecord = z.infer<typeof DurationRecord>;

/** A build that any equal request may use. */
export const BuildRecord = z.object({
  v: z.literal(1),
  /** The build key (`core/reuse.ts`). */
  key: z.string().max(1000),
  chain: ChainId,
  configuration: Configuration,
  bundle: Digest,
  manifest: ArtifactManifest,
  builtAt: z.number(),
  buildMs: z.number(),
  agent: AgentId,
});
export type BuildRecord = z.infer<typeof BuildRecord>;

/** What a person has said of an agent; it holds until it is taken back, whoever comes and goes. */
export const AgentRecord = z.object({ v: z.literal(1), agent: AgentId, isDrained: z.boolean(), at: z.number() });
export type AgentRecord = z.infer<typeof AgentRecord>;

/** What a person has said of a device, and what the farm must know it by. */
export const DeviceNote = z.object({
  v: z.literal(1),
  configuration: Configuration,
  at: z.number(),
  /** No bulk flashes it. */
  isHeld: z.boolean(),
  /** Why, in the person's words. */
  reason: z.string().max(200).optional(),
  /** The hardware was replaced: what was given to an agent until then says nothing of the device that is there now. */
  forgottenAt: z.number().optional(),
});
export type DeviceNote = z.infer<typeof DeviceNote>;
