/** The dependency chain: one KV record, so that a step of a prerequisite and what follows from it is one write. */
import { z } from "zod";
import { ChainId, Configuration, type JobName } from "#protocol/ids.ts";
import { CleanJob, CompileJob, ConfirmJob, isTerminal, type Job, UploadJob } from "#protocol/job.ts";
import { RolloutPart } from "#protocol/rollout.ts";
import { withoutTargetSecrets } from "#protocol/target-secrets.ts";

export const ChainKind = z.enum(["install", "build", "upload", "rename", "clean", "reset"]);
export type ChainKind = z.infer<typeof ChainKind>;

/** What goes first: somebody waits for it with a device in hand; somebody waits for it; it is one of many. */
export const Priority = z.enum(["urgent", "interactive", "bulk"]);
export type Priority = z.infer<typeof Priority>;

/**
 * `compile` is the head where there is one, `upload` depends on it. `install` and `rename` have both, `build` only the first,
 * `upload` only the second; `confirm` depends on `upload`, where the device can be asked. `clean` and `reset` have a `clean` job and nothing else; one chain an agent, because each is over or
 * lost by itself. Records of older versions are brought up to this one by `chain-versions.ts`.
 */
export const Chain = z.object({
  v: z.literal(2),
  id: ChainId,
  kind: ChainKind,
  configuration: Configuration,
  /** A rename: the name before. Both names are locked until the chain is over. */
  renamedFrom: Configuration.optional(),
  createdAt: z.number(),
  /** Absent: `interactive`. */
  priority: Priority.optional(),
  rollout: RolloutPart.optional(),
  compile: CompileJob.optional(),
  upload: UploadJob.optional(),
  confirm: ConfirmJob.optional(),
  clean: CleanJob.optional(),
});
export type Chain = z.infer<typeof Chain>;

/** The jobs of a chain, prerequisites first. */
export function jobsOf(chain: Chain): readonly Job[] {
  return [chain.clean, chain.compile, chain.upload, chain.confirm].filter((job) => job !== undefined);
}

export function jobOf(chain: Chain, name: JobName): Job | undefined {
  return chain[name];
}

/** The configurations that a chain locks: its own, and the former name in a rename. */
export function configurationsOf({ configuration, renamedFrom }: Chain): readonly Configuration[] {
  return renamedFrom === undefined ? [configuration] : [configuration, renamedFrom];
}

/** A chain is finished when all its jobs are terminal; it then moves from the live bucket to the history. */
export function isFinished(chain: Chain): boolean {
  return jobsOf(chain).every((job) => isTerminal(job.state));
}

/** Nothing is left of it but the question whether its device still runs the build. */
export function isSettled(chain: Chain): boolean {
  return jobsOf(chain).every((job) => isTerminal(job.state) || job.name === "confirm");
}

/** A copy without secrets, for whatever is shown, logged or kept in the history. */
export function withoutSecrets(chain: Chain): Chain {
  if (chain.upload === undefined) return chain;
  const { spec } = chain.upload;
  return { ...chain, upload: { ...chain.upload, spec: { ...spec, target: withoutTargetSecrets(spec.target) } } };
}
