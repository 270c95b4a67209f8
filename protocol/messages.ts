/** What agents and coordinator say to each other, each message versioned and decoded by its schema at the edge. */
import { z } from "zod";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { BootId, ChainId, Configuration, Digest, JobName } from "#protocol/ids.ts";
import { BuildSpec, JobResult, OtaTarget } from "#protocol/job.ts";

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
  target: OtaTarget,
  manifest: ArtifactManifest,
});
export type UploadDispatch = z.infer<typeof UploadDispatch>;

/** A clean as its agent pulls it; `all`: every tree that the agent has. */
export const CleanDispatch = z.object({
  v: z.literal(1),
  job: z.literal("clean"),
  ...JobIdentity,
  trees: z.enum(["configuration", "all"]),
});
export type CleanDispatch = z.infer<typeof CleanDispatch>;

export const Dispatch = z.discriminatedUnion("job", [CompileDispatch, UploadDispatch, CleanDispatch]);
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
]);
export type Ask = z.infer<typeof Ask>;

/** `go` and `drop` answer claims, `noted` a report, whether or not it still mattered. */
export const AskAnswer = z.object({
  v: z.literal(1),
  verdict: z.enum(["go", "drop", "noted"]),
  reason: z.string().optional(),
});
export type AskAnswer = z.infer<typeof AskAnswer>;

/** An order to end an attempt and to report it as stopped. */
export const StopOrder = z.object({ v: z.literal(1), chain: ChainId, job: JobName, attempt: z.number().int() });
export type StopOrder = z.infer<typeof StopOrder>;

/** A bundle that an agent is likely to need next. A hint: nobody minds when it is lost. */
export const PrefetchHint = z.object({ v: z.literal(1), bundle: Digest });
export type PrefetchHint = z.infer<typeof PrefetchHint>;

export const Progress = z.object({
  v: z.literal(1),
  /** `environment`, `fetching`, `compiling`, `linking`, `storing`, `cleaning`, or an upload phase. */
  phase: z.string().max(40),
  percent: z.number().min(0).max(100).optional(),
});
export type Progress = z.infer<typeof Progress>;
