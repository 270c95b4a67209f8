/** Dependencies: what a finished prerequisite means for the job that was held for it. Part of the same step, never later. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { everyConfiguration } from "#protocol/ids.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { CancelCause, CompileJob, ConfirmJob, JobState, Outcome, UploadJob } from "#protocol/job.ts";
import { networkOf } from "#protocol/job.ts";
import type { Step } from "#coordinator/core/step.ts";
import { heldBack } from "#coordinator/core/waves.ts";

/** How a build ended that succeeded. */
export type Built = Extract<Outcome, { kind: "built" }>;

/**
 * The record of a chain as it starts: the compile job queued, the upload held for it, or queued where there is none. With `built`,
 * the outcome of an equal build, the compile has succeeded.
 * @throws UsageError when the request lacks what its kind needs.
 */
export function startChain(request: ChainRequest, at: number, built?: Built): Chain {
  const { id, kind, configuration, build, upload, renamedFrom, priority, route, isRebuild, rollout } = request;
  if (kind === "clean" || kind === "reset" || configuration === everyConfiguration) {
    throw new UsageError("not-a-build", `a chain of kind ${kind} for ${configuration} has a request of its own`);
  }
  if ((kind === "rename") !== (renamedFrom !== undefined) || renamedFrom === configuration) {
    throw new UsageError(
      "chain-incomplete",
      `${configuration}: a rename, and nothing else, has another name before it`,
    );
  }
  const needsBuild = kind !== "upload";
  const needsUpload = kind !== "build";
  if (needsBuild !== (build !== undefined) || needsUpload !== (upload !== undefined)) {
    throw new UsageError(
      "chain-incomplete",
      `${configuration}: a chain of kind ${kind} needs other jobs than it was given`,
    );
  }
  if (kind === "upload" && upload?.manifest === undefined) {
    throw new UsageError("chain-incomplete", `${configuration}: an upload without a build needs an artifact`);
  }
  const fresh = { attempt: 0, avoid: [], earlier: [] };
  const queued = { ...fresh, state: "queued" as const, queuedAt: at };
  const compile: CompileJob | undefined =
    build === undefined
      ? undefined
      : {
          lane: "compile",
          name: "compile",
          spec: build,
          ...(route === undefined ? {} : { route }),
          ...(isRebuild === true ? { isRebuild } : {}),
          ...queued,
          ...(built === undefined ? {} : { state: "succeeded" as const, outcome: built, endedAt: at }),
        };
  const isHeld = compile !== undefined && built === undefined;
  const uploadJob: UploadJob | undefined =
    upload === undefined
      ? undefined
      : {
          lane: "upload",
          name: "upload",
          spec: {
            target: upload.target,
            ...(upload.manifest === undefined ? {} : { manifest: upload.manifest }),
            ...(upload.on === undefined ? {} : { on: upload.on }),
            ...(upload.labels === undefined ? {} : { labels: upload.labels }),
            ...(upload.timing === undefined ? {} : { timing: upload.timing }),
            ...(upload.mayDowngrade === undefined ? {} : { mayDowngrade: upload.mayDowngrade }),
            ...(upload.part === undefined ? {} : { part: upload.part }),
          },
          mode: "flash",
          ...(isHeld ? { ...fresh, state: "held" as const } : queued),
        };
  const afterMs = upload?.confirmAfterMs;
  const isAskable = upload !== undefined && networkOf(upload.target)?.api !== undefined && upload.part === undefined;
  const confirm: ConfirmJob | undefined =
    afterMs === undefined || !isAskable
      ? undefined
      : { lane: "upload", name: "confirm", spec: { afterMs }, ...fresh, state: "held" };
  return {
    v: 2,
    id,
    kind,
    configuration,
    ...(renamedFrom === undefined ? {} : { renamedFrom }),
    createdAt: at,
    ...(priority === undefined ? {} : { priority }),
    ...(rollout === undefined ? {} : { rollout }),
    ...(compile === undefined ? {} : { compile }),
    ...(uploadJob === undefined ? {} : { upload: uploadJob }),
    ...(confirm === undefined ? {} : { confirm }),
  };
}

const causeOf: Partial<Record<JobState, CancelCause>> = {
  failed: "prerequisite-failed",
  cancelled: "prerequisite-cancelled",
  unknown: "prerequisite-unknown",
};

/** Releases or cancels the held dependents of a chain according to how their prerequisites stand. */
export function settleDependent(step: Step, chain: Chain): void {
  settleUpload(step, chain);
  settleConfirm(step, step.draft.chain(chain.id) ?? chain);
}

function settleUpload(step: Step, chain: Chain): void {
  if (chain.upload?.state !== "held") return;
  const prerequisite = chain.compile?.state;
  if (prerequisite === "succeeded") {
    const isOpen = heldBack(chain, step.draft.standingOf(chain)) === undefined;
    if (isOpen) step.change(chain.id, "upload", { state: "queued", queuedAt: step.at });
    return;
  }
  // A held job without a prerequisite can never be released: cancelled, so that it does not wait for ever.
  const cause = prerequisite === undefined ? "prerequisite-unknown" : causeOf[prerequisite];
  if (cause !== undefined)
    step.change(chain.id, "upload", { state: "cancelled", outcome: { kind: "cancelled", cause } });
}

/** The device is asked again when the time after its flash is over, if it said itself what it runs. */
function settleConfirm(step: Step, { id, upload, confirm }: Chain): void {
  if (confirm?.state !== "held") return;
  if (upload?.state === "succeeded") {
    const couldBeAsked = upload.outcome?.kind === "flashed" && upload.outcome.level === "running";
    if (!couldBeAsked) cancelConfirm(step, id, "not-askable");
    else if (step.at >= (upload.endedAt ?? step.at) + confirm.spec.afterMs)
      step.change(id, "confirm", { state: "queued", queuedAt: step.at });
    return;
  }
  const cause = upload === undefined ? "prerequisite-unknown" : causeOf[upload.state];
  if (cause !== undefined) cancelConfirm(step, id, cause);
}

export function cancelConfirm(step: Step, id: ChainId, cause: CancelCause): void {
  step.change(id, "confirm", { state: "cancelled", outcome: { kind: "cancelled", cause } });
}

/**
 * Settles every held job whose prerequisite is missing or over. The steps of this core leave none behind; a record that was
 * damaged, or written by an older version, may.
 */
export function settleHeld(step: Step): void {
  for (const chain of step.draft.chains()) settleDependent(step, chain);
}

/** The manifest that a chain's upload flashes: its own, or that of the compile job that has succeeded. */
export function manifestOf(chain: Chain) {
  const built = chain.compile?.outcome;
  return chain.upload?.spec.manifest ?? (built?.kind === "built" ? built.manifest : undefined);
}
