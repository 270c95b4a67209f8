/** A compile agent's handler on the bench: everything is as it is in an agent, with stores that answer at once. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "#actor/clock.ts";
import type { Attempt } from "#actor/lane-worker.ts";
import { GroupLedger } from "#actor/process-group.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import { BundleCache } from "#compile-agent/bundle-cache.ts";
import { compileHandler, type CompileServices } from "#compile-agent/compile-job.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import type { Digest } from "#protocol/ids.ts";
import { type BuildSpec, CommandBuildSpec, type JobResult } from "#protocol/job.ts";
import { stageLimits, type Stage, type StageLimit } from "#protocol/limits.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { makeCommandBundle } from "#toolchain/command-bundle.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { agentNamed, chainNumber, configurationNamed } from "#test/support/farm-builders.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

export const lamp = configurationNamed("lamp");
const common = { v: 1 as const, chain: chainNumber(1), attempt: 1, configuration: lamp };

export const compileOf = (spec: BuildSpec): Dispatch => ({ ...common, job: "compile", spec });
export const cleanOf = (trees: "configuration" | "all"): Dispatch => ({ ...common, job: "clean", trees });

export const deadline = (stage: Stage, limit: "silence" | "total", limitMs: number) => ({
  kind: "failed" as const,
  failure: { kind: "deadline" as const, stage, limit, limitMs, effect: "none" as const },
});

export class CompileBench {
  readonly home: TemporaryFolder;
  readonly workspace: Workspace;
  readonly bundle: { readonly digest: Digest; readonly bytes: Uint8Array };
  readonly lines: string[] = [];
  readonly said: string[] = [];

  private constructor(home: TemporaryFolder, bundle: CompileBench["bundle"]) {
    this.home = home;
    this.bundle = bundle;
    this.workspace = new Workspace(join(home.path, "build"));
  }

  static async open(): Promise<CompileBench> {
    const home = await temporaryFolder();
    const project = join(home.path, "project");
    await mkdir(project);
    await writeFile(join(project, "source.txt"), "source\n");
    const made = await makeCommandBundle(project);
    if (!made.ok) throw new Error(JSON.stringify(made));
    return new CompileBench(home, made);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.home[Symbol.asyncDispose]();
  }

  makes(script: string): BuildSpec {
    const argv = ["sh", "-c", script];
    return CommandBuildSpec.parse({ driver: "command", bundle: this.bundle.digest, argv, artifacts: ["*.bin"] });
  }

  bundlesFrom(getFile: ObjectStore["getFile"]): BundleCache {
    return new BundleCache(join(this.home.path, "bundles"), { getFile });
  }

  /** Does a job with limits of the test's own. */
  does(
    dispatch: Dispatch,
    over: Partial<CompileServices> = {},
    limits: Partial<Record<Stage, StageLimit>> = {},
    attempt: Partial<Attempt> = {},
  ): Promise<JobResult> {
    const { home, workspace, bundle, lines, said } = this;
    const handler = compileHandler({
      bundles: this.bundlesFrom(async (_digest, path) => {
        await writeFile(path, bundle.bytes);
        return { ok: true, bytes: bundle.bytes.length };
      }),
      artifacts: { putFile: async () => undefined },
      workspace,
      environments: new EsphomeEnvironments({ cacheFolder: join(home.path, "cache"), clock: systemClock }),
      ledger: new GroupLedger(join(home.path, "groups")),
      agent: agentNamed("build-1"),
      clock: systemClock,
      limits: { ...stageLimits, ...limits },
      openLog: (_chain, job) => ({ line: (text) => lines.push(`${job}: ${text}`), close: async () => undefined }),
      say: (_chain, job, { phase }) => said.push(`${job}: ${phase}`),
      announceTrees: async () => undefined,
      ...over,
    });
    return handler(dispatch, {
      signal: new AbortController().signal,
      claimFlash: async () => "drop",
      mayStart: () => false,
      release: async () => undefined,
      ...attempt,
    });
  }
}
