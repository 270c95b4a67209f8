/**
 * What becomes of a chain that was live when the backup was made. Pure.
 *
 * 1. Nothing of it goes on: since the backup was made it may have been built, flashed, cancelled and asked for anew.
 * 2. A flash that may have begun ends as unknown, for somebody to ask the device. Whatever had not come so far is cancelled.
 */
import type { Chain } from "#protocol/chain.ts";
import { isTerminal, type Job, type UploadJob } from "#protocol/job.ts";

/** @param backupAt when the backup was made. @param at when it is restored (both ms since 1970) */
export function endedByRestore(chain: Chain, backupAt: number, at: number): Chain {
  const { compile, upload, confirm, clean } = chain;
  return {
    ...chain,
    ...(compile === undefined ? {} : { compile: ended(compile, backupAt, at) }),
    ...(upload === undefined ? {} : { upload: endedUpload(upload, backupAt, at) }),
    ...(confirm === undefined ? {} : { confirm: ended(confirm, backupAt, at) }),
    ...(clean === undefined ? {} : { clean: ended(clean, backupAt, at) }),
  };
}

function endedUpload(upload: UploadJob, backupAt: number, at: number): UploadJob {
  const mayHaveFlashed = upload.flashClaim !== undefined || upload.state === "running" || upload.state === "cancelling";
  if (isTerminal(upload.state) || !mayHaveFlashed) return ended(upload, backupAt, at);
  return {
    ...upload,
    state: "unknown",
    startedAt: upload.startedAt ?? upload.flashClaim?.at ?? backupAt,
    endedAt: at,
    outcome: { kind: "failed", failure: { kind: "farm-restored", backupAt, effect: "uncertain" } },
  };
}

function ended<J extends Job>(job: J, backupAt: number, at: number): J {
  if (isTerminal(job.state)) return job;
  // What was being cancelled already has its reason.
  const outcome = job.outcome ?? { kind: "cancelled", cause: "restored", backupAt };
  return { ...job, state: "cancelled", endedAt: at, outcome };
}
