/** The dependency chain: one KV record, so that a step of a prerequisite and what follows from it is one write. */
import { z } from "zod";
import { ChainId, Configuration, type JobName } from "#protocol/ids.ts";
import { CompileJob, isTerminal, type Job, UploadJob } from "#protocol/job.ts";

export const ChainKind = z.enum(["install", "build", "upload"]);
export type ChainKind = z.infer<typeof ChainKind>;

/**
 * `compile` is the head where there is one, `upload` depends on it. `install` has both, `build` only the first,
 * `upload` only the second.
 */
export const Chain = z.object({
  v: z.literal(1),
  id: ChainId,
  kind: ChainKind,
  configuration: Configuration,
  createdAt: z.number(),
  compile: CompileJob.optional(),
  upload: UploadJob.optional(),
});
export type Chain = z.infer<typeof Chain>;

/** The jobs of a chain, prerequisites first. */
export function jobsOf(chain: Chain): readonly Job[] {
  return [chain.compile, chain.upload].filter((job) => job !== undefined);
}

export function jobOf(chain: Chain, name: JobName): Job | undefined {
  return name === "compile" ? chain.compile : chain.upload;
}

/** A chain is finished when all its jobs are terminal; it then moves from the live bucket to the history. */
export function isFinished(chain: Chain): boolean {
  return jobsOf(chain).every((job) => isTerminal(job.state));
}

/** A copy without secrets, for whatever is shown, logged or kept in the history. */
export function withoutSecrets(chain: Chain): Chain {
  if (chain.upload === undefined) return chain;
  const { password: _password, api, ...target } = chain.upload.spec.target;
  const bare = api === undefined ? target : { ...target, api: { port: api.port } };
  return { ...chain, upload: { ...chain.upload, spec: { ...chain.upload.spec, target: bare } } };
}
