/** The secrets of a job, which are sealed to this agent. Opened when the job is taken up, and kept nowhere. */
import type { KeyObject } from "node:crypto";
import type { JobHandler } from "#actor/lane-worker.ts";
import { isSealed, open } from "#actor/sealing.ts";
import type { UploadTarget } from "#protocol/job.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { secretPurpose, withSecrets } from "#protocol/target-secrets.ts";

/** @param unseal absent in an open farm. @returns what is wrong instead of a dispatch that cannot be opened */
export function opened(dispatch: Dispatch, unseal: KeyObject | undefined): Dispatch | { readonly detail: string } {
  if (!("target" in dispatch)) return dispatch;
  const { chain } = dispatch;
  let detail: string | undefined;
  const target = withSecrets<UploadTarget>(dispatch.target, (secret) => {
    if (!isSealed(secret)) return secret;
    const text = unseal === undefined ? undefined : open(unseal, secret, secretPurpose(chain));
    if (text === undefined) {
      detail =
        unseal === undefined
          ? "it has no credentials, and they are sealed"
          : "they are sealed to other keys than its own";
    }
    return text;
  });
  return detail === undefined ? ({ ...dispatch, target } as Dispatch) : { detail };
}

/** A handler that is given its jobs opened. */
export function withOpenSecrets(handler: JobHandler, unseal: KeyObject | undefined): JobHandler {
  return async (dispatch, attempt) => {
    const job = opened(dispatch, unseal);
    if ("job" in job) return handler(job, attempt);
    return { kind: "failed", failure: { kind: "secrets-unreadable", detail: job.detail } };
  };
}
