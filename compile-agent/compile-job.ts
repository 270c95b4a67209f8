/** The jobs of the compile lane. A compile job: its bundle comes, its driver builds, its images go to the store. */
import { readFile } from "node:fs/promises";
import type { Clock } from "#actor/clock.ts";
import type { JobHandler } from "#actor/lane-worker.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { inStage } from "#actor/stage.ts";
import { describeFailure, type Failure } from "#protocol/failure.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import { stageLimits, type StageLimits } from "#protocol/limits.ts";
import type { CleanDispatch, CompileDispatch, Progress } from "#protocol/messages.ts";
import type { JobLogWriter } from "#bus/job-log.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import { transferWithin } from "#bus/object-transfer.ts";
import type { BuildResult } from "#compile-agent/build.ts";
import { clean } from "#compile-agent/clean-job.ts";
import { buildWithCommand } from "#compile-agent/command-driver.ts";
import { buildWithEsphome } from "#compile-agent/esphome-driver.ts";
import type { Workspace } from "#compile-agent/workspace.ts";
import type { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";

export interface CompileServices {
  readonly bundles: Pick<ObjectStore, "get">;
  readonly artifacts: Pick<ObjectStore, "put">;
  readonly workspace: Workspace;
  readonly environments: EsphomeEnvironments;
  readonly ledger: GroupLedger;
  readonly clock: Clock;
  readonly limits?: StageLimits;
  readonly openLog: (chain: ChainId, job: JobName) => Pick<JobLogWriter, "line" | "close">;
  readonly say: (chain: ChainId, job: JobName, progress: Progress) => void;
  /** Called when environments or warm trees may have come or gone; resolves when the statement that says so has left. */
  readonly announceTrees: () => Promise<void>;
}

/** How the compile lane does a job. What the store or the network does only delays it; the signal ends it with `stopped`. */
export function compileHandler(services: CompileServices): JobHandler {
  return async (dispatch, { signal }) => {
    if (dispatch.job === "upload") return failed({ kind: "internal", detail: "an upload came down the compile lane" });
    const log = services.openLog(dispatch.chain, dispatch.job);
    try {
      const result = await work(services, dispatch, signal, (line) => log.line(line));
      if (result.kind === "failed") log.line(describeFailure(result.failure));
      return result;
    } finally {
      // Nobody waits for the statement of a tree that has come.
      void services.announceTrees();
      await log.close();
    }
  };
}

function work(
  services: CompileServices,
  dispatch: CompileDispatch | CleanDispatch,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<JobResult> {
  switch (dispatch.job) {
    case "compile":
      return compile(services, dispatch, signal, onLine);
    case "clean":
      return clean(services, dispatch, signal, onLine);
  }
}

async function compile(
  services: CompileServices,
  dispatch: CompileDispatch,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<JobResult> {
  const { clock, bundles, artifacts, limits = stageLimits } = services;
  const startedAt = clock.monotonic();
  const say = (progress: Omit<Progress, "v">) => services.say(dispatch.chain, dispatch.job, { v: 1, ...progress });
  say({ phase: "fetching" });
  const stage = { limits, clock, signal };
  const fetched = await inStage({ ...stage, stage: "fetching" }, (watch) =>
    transferWithin(watch, clock, (transfer) => bundles.get(dispatch.spec.bundle, transfer)),
  );
  if (fetched.kind !== "done") return fetched;
  if (!fetched.value.ok) {
    const { bundle } = dispatch.spec;
    const { found } = fetched.value;
    const reason = found === "missing" ? `${bundle} is not in the store` : `its digest is ${found}, not ${bundle}`;
    return failed({ kind: "bundle-refused", reason });
  }
  const built = await build(services, dispatch, Buffer.from(fetched.value.bytes), signal, onLine, say);
  if (!built.ok) return built.aborted ? { kind: "stopped" } : failed(built.failure);
  say({ phase: "storing" });
  try {
    const stored = await inStage({ ...stage, stage: "storing" }, async (watch) => {
      for (const { path, digest } of built.images) {
        const bytes = await readFile(path);
        const done = await transferWithin(watch, clock, async (transfer) => {
          await artifacts.put(digest, bytes, transfer);
          return {};
        });
        if (done === undefined) return undefined;
      }
      return {};
    });
    if (stored.kind !== "done") return stored;
  } finally {
    await services.workspace.dropResult(built.folder);
  }
  return { kind: "built", manifest: built.manifest, buildMs: Math.round(clock.monotonic() - startedAt) };
}

function build(
  services: CompileServices,
  { spec, configuration }: CompileDispatch,
  bundle: Buffer,
  signal: AbortSignal,
  onLine: (line: string) => void,
  onProgress: (progress: Omit<Progress, "v">) => void,
): Promise<BuildResult> {
  const { workspace, ledger, environments, clock, limits } = services;
  const common = { bundle, configuration, workspace, signal, onLine, onProgress, ledger, clock, limits };
  switch (spec.driver) {
    case "esphome":
      return buildWithEsphome({ ...common, spec, environments });
    case "command":
      return buildWithCommand({ ...common, spec });
  }
}

function failed(failure: Failure): JobResult {
  return { kind: "failed", failure };
}
