/**
 * Builds in a container of an engine that the owner runs.
 *
 * 1. A container has a name of its own, by which it is ended: the engine's command is only who waits for it. Its end is proven when the
 *    engine lists it no more.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { plainEnvironment, runProcess, type ProcessStart } from "#actor/subprocess.ts";
import {
  insideOf,
  roomOf,
  type Sandbox,
  type SandboxPlace,
  type SandboxSettings,
} from "#compile-agent/sandbox/sandbox.ts";
import { ourselves } from "#compile-agent/sandbox/tree-owner.ts";
import { measureTree } from "#compile-agent/tree-note.ts";
import { hasSucceeded } from "#toolchain/process-end.ts";

/** The private /tmp is memory; a compiler leaves some megabytes there. */
const temporaryBytesMax = 1_000_000_000;
/** What POSIX semaphores and Python's multiprocessing need. */
const sharedMemoryBytesMax = 256_000_000;
/** Ending one takes a second. */
const removalMsMax = 30_000;

/** Exit code 0: the engine, which answers, knows of no such container. */
const endScript = `"$1" rm --force "$2"; left=$("$1" ps --all --quiet --filter "name=^$2$") && [ -z "$left" ]`;

/** @returns the sandbox, or why there is none */
export function containerSandbox(settings: SandboxSettings, { sharedHome }: SandboxPlace): Sandbox | string {
  const { image, engine, engineVariables, diskBytesMax } = settings;
  if (image === undefined) return "no image is named: set FLASHYARD_SANDBOX_IMAGE";
  return {
    level: "container",
    async confine(tree, environment) {
      const { home, readable } = await roomOf(tree, environment, settings, sharedHome);
      const mounts = [
        ...[home, tree.source].map((path) => mountOf(path, false)),
        // The record of the bundle's files, which the agent trusts when it unpacks the next one.
        ...[join(tree.source, ".flashyard"), ...readable].map((path) => mountOf(path, true)),
      ];
      return ({ argv, cwd, env }) => {
        const name = `flashyard-build-${randomBytes(8).toString("hex")}`;
        const inside = insideOf(env, home, "/tmp");
        const [file = "", ...args] = argv;
        const options = [...roomOptions(settings), ...mounts, ...variableOptions(inside), "--workdir", cwd];
        const own = engineEnvironment(engineVariables);
        const endCommand = ["sh", "-c", endScript, "end", engine, name];
        return {
          argv: [engine, "run", "--name", name, ...options, "--entrypoint", file, image, ...args],
          cwd: tree.source,
          env: { ...inside, ...own },
          limits: {
            // The engine's processes, not the build's: those are counted and held by its control group.
            memoryBytesMax: Number.MAX_SAFE_INTEGER,
            processesMax: Number.MAX_SAFE_INTEGER,
            disk: { folder: tree.folder, bytesMax: diskBytesMax, measure: () => measureTree(tree.folder) },
          },
          beyond: {
            end: async () => hasSucceeded(await runProcess({ argv: endCommand, env: own, totalMs: removalMsMax })),
            // Whoever runs it later has no environment of ours.
            endCommand: ["env", ...Object.entries(own).map(([key, value]) => `${key}=${value}`), ...endCommand],
          },
        };
      };
    },
  };
}

function roomOptions({ memoryBytesMax, processesMax, diskBytesMax, hasNetwork, engine }: SandboxSettings): string[] {
  const { uid, gid } = ourselves();
  return [
    "--rm",
    "--init",
    "--pull=never",
    "--log-driver=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--hostname=build",
    `--user=${uid}:${gid}`,
    // Without root the engine would give the agent's files to somebody else inside.
    ...(engine === "podman" && uid !== 0 ? ["--userns=keep-id"] : []),
    `--pids-limit=${processesMax}`,
    `--memory=${memoryBytesMax}`,
    `--memory-swap=${memoryBytesMax}`,
    `--shm-size=${sharedMemoryBytesMax}`,
    `--tmpfs=/tmp:rw,exec,nosuid,nodev,size=${temporaryBytesMax}`,
    `--ulimit=fsize=${diskBytesMax}`,
    "--ulimit=core=0",
    ...(hasNetwork ? [] : ["--network=none"]),
  ];
}

/** What an engine's command needs, and no proxy with its password: it stands in the guard's command line. */
function engineEnvironment(variables: SandboxSettings["engineVariables"]): Record<string, string> {
  const { PATH = "/usr/bin:/bin", HOME = "/", XDG_RUNTIME_DIR } = plainEnvironment();
  return { PATH, HOME, ...(XDG_RUNTIME_DIR === undefined ? {} : { XDG_RUNTIME_DIR }), ...variables };
}

function mountOf(path: string, isReadOnly: boolean): string {
  return `--mount=type=bind,source=${path},target=${path}${isReadOnly ? ",readonly" : ""}`;
}

/** By name where the engine's command has the same: no password of a proxy stands in a command line. */
function variableOptions(inside: ProcessStart["env"]): string[] {
  const ours = new Set(["HOME", "TMPDIR"]);
  return Object.entries(inside).map(([name, value]) => (ours.has(name) ? `--env=${name}=${value}` : `--env=${name}`));
}
