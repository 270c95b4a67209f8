/** What a build machine says that it can do. */
import { availableParallelism, totalmem } from "node:os";
import type { CompileCapabilities } from "#protocol/agent.ts";
import { warmTreesMax } from "#protocol/agent.ts";
import type { Workspace } from "#compile-agent/workspace.ts";
import type { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import type { Python } from "#toolchain/python.ts";

/** Read anew whenever a job has ended; `pythons` are searched for once, at the start. */
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

/**
 * Reads and tells, one after the other, so that what was read last is told last. @returns what asks for that: it resolves when a
 * reading that began after the asking has been told, and never rejects.
 */
export function inTurn(readAndTell: () => Promise<void>): () => Promise<void> {
  let running = Promise.resolve();
  let next: Promise<void> | undefined;
  return () => {
    next ??= running.then(() => {
      next = undefined;
      running = readAndTell();
      return running;
    });
    return next;
  };
}
