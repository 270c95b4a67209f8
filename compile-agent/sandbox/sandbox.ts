/**
 * What stands between a build, which is foreign code, and its machine. A sandbox changes how a command is started and what it may
 * take; everything that runs a build's code is started through one. docs/sandbox.md says what each level keeps out, and what not.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { ProcessLimits } from "#actor/process-limits.ts";
import type { Confinement, ProcessStart } from "#actor/subprocess.ts";
import type { SandboxLevel } from "#protocol/sandbox.ts";
import { bubblewrapArguments, readableForPython } from "#compile-agent/sandbox/bubblewrap.ts";
import { type Owner, takeTreeBack } from "#compile-agent/sandbox/tree-owner.ts";
import { measureTree } from "#compile-agent/tree-note.ts";
import type { Tree } from "#compile-agent/workspace.ts";

export interface Sandbox {
  readonly level: SandboxLevel;
  /** Whose the files of a bundle are when builds run as another user. */
  readonly owner?: Owner;
  /** A build's room, the same for all its runs. @param environment the folder of the ESPHome environment that this build uses. */
  readonly confine: (tree: Tree, environment?: string) => Promise<Confinement>;
}

export interface SandboxSettings {
  readonly memoryBytesMax: number;
  readonly processesMax: number;
  readonly diskBytesMax: number;
  /** Of the agent: as many builds run at a time. */
  readonly slots: number;
  readonly hasNetwork: boolean;
  /** Whether builds of different configurations share the home in which PlatformIO and ESP-IDF keep their tools. */
  readonly sharesTools: boolean;
  /** Folders that builds may read besides the system's. */
  readonly readable: readonly string[];
  /** Of the level `user`: a name, or `uid:gid`. */
  readonly buildUser: string;
  /** Of the level `container`. */
  readonly engine: "docker" | "podman";
  readonly image?: string | undefined;
  /** By which the engine's command finds its engine. */
  readonly engineVariables?: Readonly<Record<string, string>>;
}

export interface SandboxPlace {
  /** What the agent keeps; builds see nothing of it but their trees. */
  readonly agentHome: string;
  /** The folder of the workspace, in the agent's home. */
  readonly buildFolder: string;
  /** The home of all builds where they share their tools, in the cache. */
  readonly sharedHome: string;
  /** The Python of ESPHome's environments, where there is one. */
  readonly python?: string | undefined;
}

export const plainSandbox: Sandbox = {
  level: "none",
  confine: async () => (start) => start,
};

/** What a build in a root of its own finds there beside its tree: its home, made, and folders that it may only read. */
export async function roomOf(
  tree: Tree,
  environment: string | undefined,
  settings: Pick<SandboxSettings, "readable" | "sharesTools">,
  sharedHome: string,
): Promise<{ readonly home: string; readonly readable: readonly string[] }> {
  await takeTreeBack(tree);
  const home = settings.sharesTools ? sharedHome : join(tree.folder, "home");
  await mkdir(home, { recursive: true, mode: 0o700 });
  const ofEnvironment = environment === undefined ? [] : [environment, ...(await readableForPython(environment))];
  return { home, readable: [...settings.readable, ...ofEnvironment] };
}

/** @param sharedHome the home of all builds, where they share their tools. */
export function bubblewrapSandbox(settings: SandboxSettings, sharedHome: string): Sandbox {
  const { memoryBytesMax, processesMax, diskBytesMax, hasNetwork } = settings;
  return {
    level: "bubblewrap",
    async confine(tree, environment) {
      const { home, readable } = await roomOf(tree, environment, settings, sharedHome);
      const room = { source: tree.source, home, readable, hasNetwork, processesMax, fileBytesMax: diskBytesMax };
      const limits: ProcessLimits = {
        memoryBytesMax,
        processesMax,
        disk: { folder: tree.folder, bytesMax: diskBytesMax, measure: () => measureTree(tree.folder) },
      };
      return ({ argv, cwd, env }) => ({
        argv: [...bubblewrapArguments({ ...room, cwd, env }), ...argv],
        cwd: tree.source,
        env: insideOf(env, home, "/tmp"),
        limits,
      });
    },
  };
}

/** Folders of the agent's own that a variable names are not there inside. */
export function insideOf(env: ProcessStart["env"], home: string, temporary: string): ProcessStart["env"] {
  const kept = Object.entries(env).filter(([name]) => !name.startsWith("XDG_"));
  return { ...Object.fromEntries(kept), HOME: home, TMPDIR: temporary };
}
