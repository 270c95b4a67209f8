/** The jobs of the compile lane. A compile job: its bundle comes, its driver builds, its images go to the store. */
import type { Clock } from "#actor/clock.ts";
import type { Attempt, JobHandler } from "#actor/lane-worker.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { digestOfManifest, digestOfSpec } from "#actor/provenance.ts";
import { inStage } from "#actor/stage.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { describeFailure, type Failure } from "#protocol/failure.ts";
import type { AgentId, ChainId, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import { stageLimits, type StageLimits } from "#protocol/limits.ts";
import type { CleanDispatch, CompileDispatch, Progress } from "#protocol/messages.ts";
import { farmVersion } from "#protocol/version.ts";
import type { BuildSigner } from "#bus/identity/build-signer.ts";
import type { JobLogWriter } from "#bus/job-log.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import { transferWithin } from "#bus/object-transfer.ts";
import type { BuildResult } from "#compile-agent/build.ts";
import type { BundleCache, TakenBundle } from "#compile-agent/bundle-cache.ts";
import { clean } from "#compile-agent/clean-job.ts";
import { buildWithCommand } from "#compile-agent/command-driver.ts";
import { buildWithEsphome } from "#compile-agent/esphome-driver.ts";
import type { Sandbox } from "#compile-agent/sandbox/sandbox.ts";
import type { Workspace } from "#compile-agent/workspace.ts";
import type { Stop } from "#toolchain/attempt.ts";
import type { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";

export interface CompileServices {
  readonly bundles: Pick<BundleCache, "take" | "clear">;
  readonly artifacts: Pick<ObjectStore, "putFile">;
  readonly workspace: Workspace;
  readonly environments: EsphomeEnvironments;
  readonly ledger: GroupLedger;
  /** Absent in an open farm, where nothing is signed. */
  readonly sign?: BuildSigner;
  /** The agent's name. */
  readonly agent: AgentId;
  /** What builds run in; absent: none. */
  readonly sandbox?: Sandbox;
  readonly clock: Clock;
  readonly limits?: StageLimits;
  readonly openLog: (chain: ChainId, job: JobName) => Pick<JobLogWriter, "line" | "close">;
  readonly say: (chain: ChainId, job: JobName, progress: Progress) => void;
  /** Called when environments or warm trees may have come or gone; resolves when the statement that says so has left. */
  readonly announceTrees: () => Promise<void>;
}

/**
 * How the compile lane does a job. What the store or the network does only delays it; the signal ends it with `stopped`. The slot of
 * a build is free as soon as its images are out of the tree.
 */
export function compileHandler(services: CompileServices): JobHandler {
  return async (dispatch, attempt) => {
    if (dispatch.job === "upload" || dispatch.job === "confirm") {
      return failed({ kind: "internal", detail: `a ${dispatch.job} job came down the compile lane` });
    }
    const log = services.openLog(dispatch.chain, dispatch.job);
    try {
      const result = await work(services, dispatch, attempt, (line) => log.line(line));
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
  attempt: Attempt,
  onLine: (line: string) => void,
): Promise<JobResult> {
  switch (dispatch.job) {
    case "compile":
      return compile(services, dispatch, attempt, onLine);
    case "clean":
      return clean(services, dispatch, attempt.signal, onLine);
  }
}

async function compile(
  services: CompileServices,
  dispatch: CompileDispatch,
  attempt: Attempt,
  onLine: (line: string) => void,
): Promise<JobResult> {
  const { clock, bundles, artifacts, limits = stageLimits } = services;
  const { signal } = attempt;
  const startedAt = clock.monotonic();
  const say = (progress: Omit<Progress, "v">) => services.say(dispatch.chain, dispatch.job, { v: 1, ...progress });
  say({ phase: "fetching" });
  const stage = { limits, clock, signal };
  const fetched = await inStage({ ...stage, stage: "fetching" }, (watch) =>
    transferWithin(watch, clock, (transfer) => bundles.take(dispatch.spec.bundle, transfer)),
  );
  if (fetched.kind !== "done") return fetched;
  if (!fetched.value.ok) return stopOf(fetched.value);
  const built = await build(services, dispatch, fetched.value.bundle, signal, onLine, say);
  if (!built.ok) return stopOf(built);
  const { manifest, isWarm } = built;
  const buildMs = Math.round(clock.monotonic() - startedAt);
  try {
    await attempt.release();
    say({ phase: "storing" });
    const stored = await inStage({ ...stage, stage: "storing" }, async (watch) => {
      for (const { path, digest } of built.images) {
        const done = await transferWithin(watch, clock, async (transfer) => {
          await artifacts.putFile(digest, path, transfer);
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
  return { kind: "built", manifest: signed(services, dispatch, manifest), buildMs, isWarm };
}

function signed(services: CompileServices, dispatch: CompileDispatch, manifest: ArtifactManifest): ArtifactManifest {
  const { sign, agent, clock } = services;
  if (sign === undefined) return manifest;
  const { spec, configuration, chain, attempt } = dispatch;
  const provenance = sign({
    v: 1,
    manifest: digestOfManifest(manifest),
    bundle: spec.bundle,
    spec: digestOfSpec(spec),
    driver: spec.driver,
    configuration,
    chain,
    attempt,
    agent,
    farmVersion,
    builtAt: clock.now(),
  });
  return { ...manifest, provenance };
}

async function build(
  services: CompileServices,
  { spec, configuration }: CompileDispatch,
  taken: TakenBundle,
  signal: AbortSignal,
  onLine: (line: string) => void,
  onProgress: (progress: Omit<Progress, "v">) => void,
): Promise<BuildResult> {
  await using bundle = taken;
  const { tar } = bundle;
  const { workspace, ledger, environments, clock, limits, sandbox } = services;
  const common = { tar, configuration, workspace, signal, onLine, onProgress, ledger, clock, limits, sandbox };
  switch (spec.driver) {
    case "esphome":
      return await buildWithEsphome({ ...common, spec, environments });
    case "command":
      return await buildWithCommand({ ...common, spec });
  }
}

function stopOf(stop: Stop): JobResult {
  return stop.aborted ? { kind: "stopped" } : failed(stop.failure);
}

function failed(failure: Failure): JobResult {
  return { kind: "failed", failure };
}
