/** What the benchmark tells the process of an agent, and what that says of its jobs: one line of JSON each. */
import { z } from "zod";
import { AgentId, ChainId } from "#protocol/ids.ts";
import { Lane } from "#protocol/job.ts";

/** How a job is done. Durations are commanded; what is fetched and stored really is. */
export const Work = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("nothing") }),
  /** Fetches the bundle, takes `buildMs` to leave `artifactBytes` that nothing compresses, gives its slot back and stores them. */
  z.object({ kind: z.literal("build"), buildMs: z.number(), artifactBytes: z.number().int() }),
  /** Fetches the image, claims the flash, and takes `uploadMs`. */
  z.object({ kind: z.literal("flash"), uploadMs: z.number() }),
]);
export type Work = z.infer<typeof Work>;

export const AgentPlan = z.object({
  url: z.string(),
  agent: AgentId,
  lane: Lane,
  slots: z.number().int(),
  work: Work,
  /** Its own: results that are not reported yet, and files on their way. */
  home: z.string(),
});
export type AgentPlan = z.infer<typeof AgentPlan>;

export const Stage = z.enum(["bundle-in", "image-hashed", "image-out", "image-in"]);
export type Stage = z.infer<typeof Stage>;

export const AgentWord = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("lane-open") }),
  z.object({ kind: z.literal("stage"), stage: Stage, ms: z.number() }),
  /** The coordinator has noted the report of the chain's job. */
  z.object({ kind: z.literal("noted"), chain: ChainId }),
]);
export type AgentWord = z.infer<typeof AgentWord>;

export const laneOpenWords = '"lane-open"';
