/** What agents and coordinator say to each other, each message versioned and decoded by its schema at the edge. */
import { z } from "zod";
import { ArtifactManifest, imageBytesMax } from "#protocol/artifact.ts";
import { BootId, ChainId, Configuration, Digest, JobName } from "#protocol/ids.ts";
import { BuildSpec, JobResult, Lane, OtaTarget, UpdatePart, UploadTarget } from "#protocol/job.ts";
import { BuilderWord } from "#protocol/provenance.ts";

const JobIdentity = { chain: ChainId, attempt: z.number().int().positive(), configuration: Configuration } as const;

/** A compile job as its agent pulls it from the lane. */
export const CompileDispatch = z.object({
  v: z.literal(1),
  job: z.literal("compile"),
  ...JobIdentity,
  spec: BuildSpec,
});
export type CompileDispatch = z.infer<typeof CompileDispatch>;

/** An upload job as its agent pulls it; in `probe` mode it only asks the device. */
export const UploadDispatch = z.object({
  v: z.literal(1),
  job: z.literal("upload"),
  ...JobIdentity,
  mode: z.enum(["flash", "probe"]),
  target: UploadTarget,
  manifest: ArtifactManifest,
  mayDowngrade: z.boolean().optional(),
  part: UpdatePart.optional(),
  /** Of a flash; absent in an open farm. */
  builder: BuilderWord.optional(),
});
export type UploadDispatch = z.infer<typeof UploadDispatch>;

/** A confirmation as its agent pulls it: the device is asked, and nothing is sent to it. */
export const ConfirmDispatch = z.object({
  v: z.literal(1),
  job: z.literal("confirm"),
  ...JobIdentity,
  target: OtaTarget,
  manifest: ArtifactManifest,
});
export type ConfirmDispatch = z.infer<typeof ConfirmDispatch>;

/** A clean as its agent pulls it; `all`: every tree that the agent has. */
export const CleanDispatch = z.object({
  v: z.literal(1),
  job: z.literal("clean"),
  ...JobIdentity,
  trees: z.enum(["configuration", "all"]),
});
export type CleanDispatch = z.infer<typeof CleanDispatch>;

export const Dispatch = z.discriminatedUnion("job", [CompileDispatch, UploadDispatch, ConfirmDispatch, CleanDispatch]);
export type Dispatch = z.infer<typeof Dispatch>;

const AskCommon = {
  v: z.literal(1),
  boot: BootId,
  chain: ChainId,
  job: JobName,
  attempt: z.number().int().positive(),
} as const;

/** What an agent asks of the coordinator; repeated until answered, so every one of them is idempotent. */
export const Ask = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("claim"), ...AskCommon }),
  z.object({ kind: z.literal("flash-claim"), ...AskCommon }),
  z.object({ kind: z.literal("report"), ...AskCommon, result: JobResult }),
  z.object({ kind: z.literal("open-lane"), v: z.literal(1), lane: Lane, slots: z.number().int().min(1).max(256) }),
]);
export type Ask = z.infer<typeof Ask>;
/** About a job that the agent has in hand. */
export type JobAsk = Exclude<Ask, { readonly kind: "open-lane" }>;

/** `go` and `drop` answer claims, `noted` a report, whether or not it still mattered, and the opening of a lane. */
export const AskAnswer = z.object({
  v: z.literal(1),
  verdict: z.enum(["go", "drop", "noted"]),
  reason: z.string().optional(),
});
export type AskAnswer = z.infer<typeof AskAnswer>;

/** An order to end an attempt and to report it as stopped; `isForced`: also in the middle of a flash over a port. */
export const StopOrder = z.object({
  v: z.literal(1),
  chain: ChainId,
  job: JobName,
  attempt: z.number().int(),
  isForced: z.boolean().optional(),
});
export type StopOrder = z.infer<typeof StopOrder>;

/** An image that an uploader may fetch ahead; `bytes` of its content. */
export const ImageAhead = z.object({ digest: Digest, bytes: z.number().int().nonnegative().max(imageBytesMax) });
export type ImageAhead = z.infer<typeof ImageAhead>;

/**
 * What an agent will probably need next: a bundle, or the images of an uploader, the next one first, in place of those that it has
 * heard of before. A hint: nobody minds when it is lost.
 */
export const PrefetchHint = z.union([
  z.object({ v: z.literal(1), bundle: Digest }),
  z.object({ v: z.literal(1), images: z.array(ImageAhead).max(256) }),
]);
export type PrefetchHint = z.infer<typeof PrefetchHint>;

export const Progress = z.object({
  v: z.literal(1),
  /** `environment`, `fetching`, `compiling`, `linking`, `storing`, `cleaning`, or an upload phase. */
  phase: z.string().max(40),
  percent: z.number().min(0).max(100).optional(),
});
export type Progress = z.infer<typeof Progress>;
