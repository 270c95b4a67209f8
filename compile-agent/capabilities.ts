/** What a build machine says that it can do. */
import { availableParallelism, totalmem } from "node:os";
import type { CompileCapabilities } from "#protocol/agent.ts";
import { warmTreesMax } from "#protocol/agent.ts";
import type { Workspace } from "#compile-agent/workspace.ts";
import type { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import type { Python } from "#toolchain/python.ts";

/** Read anew whenever a build has ended; `pythons` are searched for once, at the start. */
export async function readCapabilities(
  environments: EsphomeEnvironments,
  workspace: Workspace,
  pythons: readonly Python[],
): Promise<CompileCapabilities> {
  const trees = await workspace.warmTrees();
  return {
    esphomeVersions: [...(await environments.ready())],
    // Whoever has no Python at all can only build what needs no ESPHome.
    makesEnvironments: pythons.length > 0,
    pythons: pythons.map((python) => python.version),
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
    warm: trees.slice(0, warmTreesMax),
  };
}
