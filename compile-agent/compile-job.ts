/** One compile job: its bundle comes, its driver builds, its images go to the store. */
import { readFile, rm } from "node:fs/promises";
import type { Clock } from "#actor/clock.ts";
import type { JobHandler } from "#actor/lane-worker.ts";
import { whileUnavailable } from "#actor/patience.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { describeFailure, type Failure } from "#protocol/failure.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import type { CompileDispatch, Progress } from "#protocol/messages.ts";
import type { JobLogWriter } from "#bus/job-log.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import type { BuildResult } from "#compile-agent/build.ts";
import { buildWithCommand } from "#compile-agent/command-driver.ts";
import { buildWithEsphome } from "#compile-agent/esphome-driver.ts";
import type { Workspace } from "#compile-agent/workspace.ts";
import type { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";

export interface CompileServices {
  readonly bundles: ObjectStore;
  readonly artifacts: ObjectStore;
  readonly workspace: Workspace;
  readonly environments: EsphomeEnvironments;
  readonly ledger: GroupLedger;
  readonly clock: Clock;
  openLog(chain: ChainId): Pick<JobLogWriter, "line" | "close">;
  say(chain: ChainId, progress: Progress): void;
  /** Called after each build: environments or warm trees may have come. */
  onBuilt(): void;
}

/** How the compile lane does a job. What the store or the network does only delays it; the signal ends it with `stopped`. */
export function compileHandler(services: CompileServices): JobHandler {
  return async (dispatch, { signal }) => {
    if (dispatch.job !== "compile") return failed({ kind: "internal", detail: "an upload came down the compile lane" });
    const log = services.openLog(dispatch.chain);
    try {
      const result = await compile(services, dispatch, signal, (line) => log.line(line));
      if (result.kind === "failed") log.line(describeFailure(result.failure));
      return result;
    } finally {
      await log.close();
      services.onBuilt();
    }
  };
}

async function compile(
  services: CompileServices,
  dispatch: CompileDispatch,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<JobResult> {
  const { clock, bundles } = services;
  const startedAt = clock.monotonic();
  const say = (progress: Omit<Progress, "v">) => services.say(dispatch.chain, { v: 1, ...progress });
  say({ phase: "fetching" });
  const fetched = await whileUnavailable(clock, signal, () => bundles.get(dispatch.spec.bundle));
  if (fetched === undefined) return { kind: "stopped" };
  if (!fetched.ok) {
    const { bundle } = dispatch.spec;
    const reason =
      fetched.found === "missing" ? `${bundle} is not in the store` : `its digest is ${fetched.found}, not ${bundle}`;
    return failed({ kind: "bundle-refused", reason });
  }
  const built = await build(services, dispatch, Buffer.from(fetched.bytes), signal, onLine, say);
  if (!built.ok) return built.aborted ? { kind: "stopped" } : failed(built.failure);
  say({ phase: "storing" });
  try {
    for (const image of built.images) {
      const bytes = await readFile(image.path);
      const stored = await whileUnavailable(clock, signal, async () => {
        await services.artifacts.put(image.digest, bytes);
        return true;
      });
      if (stored === undefined) return { kind: "stopped" };
    }
  } finally {
    await rm(built.folder, { recursive: true, force: true });
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
  const { workspace, ledger, environments } = services;
  const common = { bundle, configuration, workspace, signal, onLine, onProgress, ledger };
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
