/** What a build machine says that it can do. */
import { type CompileSettings, thisMachine } from "#actor/agent-settings.ts";
import type { CompileCapabilities } from "#protocol/agent.ts";
import { warmTreesMax } from "#protocol/agent.ts";
import type { Workspace } from "#compile-agent/workspace.ts";
import type { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import type { Python } from "#toolchain/python.ts";

type Pins = Pick<CompileSettings, "pinnedVersions" | "pinnedPlatforms">;

/** What is known without looking at the disk: for the first statement, so that the pins hold from the beginning. */
export function plainCapabilities(
  pythons: readonly Python[],
  { pinnedVersions, pinnedPlatforms }: Pins = {},
): CompileCapabilities {
  const { memoryBytes, processors } = thisMachine();
  return {
    esphomeVersions: [],
    // Whoever has no Python at all can only build what needs no ESPHome.
    makesEnvironments: pythons.length > 0,
    pythons: pythons.map((python) => python.version),
    cpus: processors,
    memoryBytes,
    ...(pinnedVersions === undefined ? {} : { pinnedVersions: [...pinnedVersions] }),
    ...(pinnedPlatforms === undefined ? {} : { pinnedPlatforms: [...pinnedPlatforms] }),
    environment: `${process.platform}-${process.arch}`,
    warm: [],
  };
}

/** Read anew whenever a job has ended; `plain` is of the start. Of more trees than can be stated, the newest are. */
export async function readCapabilities(
  environments: EsphomeEnvironments,
  workspace: Workspace,
  plain: CompileCapabilities,
): Promise<CompileCapabilities> {
  const trees = await workspace.warmTrees();
  return { ...plain, esphomeVersions: [...(await environments.ready())], warm: trees.slice(0, warmTreesMax) };
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
