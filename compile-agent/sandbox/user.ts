/**
 * Builds as a user of their own.
 *
 * 1. The agent's home can be passed by that user and not listed, and of what is in it only the build trees.
 * 2. The user has no processes but builds: whoever of it belongs to none of those that run is ended, so an end is proven dead.
 */
import { chmod, lstat, mkdir, readdir, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ProcessLimits } from "#actor/process-limits.ts";
import { UserProcesses } from "#actor/user-processes.ts";
import { type BuildUser, findBuildUser, missingCapabilities } from "#compile-agent/sandbox/build-user.ts";
import { insideOf, type Sandbox, type SandboxPlace, type SandboxSettings } from "#compile-agent/sandbox/sandbox.ts";
import { giveTree, letPass, ownFolder } from "#compile-agent/sandbox/tree-owner.ts";
import { measureTree } from "#compile-agent/tree-note.ts";

/**
 * Ends every process of a user, each by its own number: `kill -1` spares nobody where its caller kept a capability. Exit code 0: none
 * is left but what its parent has not reaped.
 */
const endScript = `
[ "\${1:-0}" -gt 0 ] || exit 1
for try in 1 2 3 4 5 6 7 8 9 10; do
  left=
  for file in /proc/[0-9]*/status; do
    state= owner=
    while read -r name value rest; do
      case $name in State:) state=$value ;; Uid:) owner=$value; break ;; esac
    done < "$file"
    [ "$owner" = "$1" ] && [ "$state" != Z ] && [ "$state" != X ] || continue
    left=1 pid=\${file#/proc/}
    kill -s KILL "\${pid%/status}"
  done
  [ -n "$left" ] || exit 0
  sleep 0.1
done
exit 1`;

/** @returns the sandbox, or why there is none; then nothing has been changed. */
export async function userSandbox(settings: SandboxSettings, place: SandboxPlace): Promise<Sandbox | string> {
  if (!settings.hasNetwork) return "it cannot take the network from a build (FLASHYARD_SANDBOX_NETWORK is off)";
  const user = await findBuildUser(settings.buildUser);
  if (typeof user === "string") return user;
  const missing = missingCapabilities();
  if (missing.length > 0) {
    return `this agent may not start anything as ${user.name}: run it as root, or with AmbientCapabilities=${missing.join(" ")} in its unit`;
  }
  const processes = new UserProcesses(user.uid);
  const strangers = processes.strays();
  if (strangers.length > 0) {
    return (
      `${user.name} has processes that are no builds (${strangers.slice(0, 5).join(", ")}): builds need a user of their own, ` +
      "because what is left of one is ended by its user"
    );
  }
  await openHome(place, user);
  for (const folder of [place.buildFolder, dirname(place.sharedHome)]) {
    const barrier = await barrierFor(folder, user);
    if (barrier !== undefined) return `${user.name} cannot pass ${barrier}: ${adviceOnFolders(barrier)}`;
  }
  const python = place.python === undefined ? undefined : await realpath(place.python).catch(() => undefined);
  const barrier = python === undefined ? undefined : await barrierFor(python, user);
  if (barrier !== undefined)
    return `${user.name} cannot pass ${barrier} to ${python}: name another Python in FLASHYARD_PYTHON`;
  return sandboxOf(settings, place, user, processes);
}

function sandboxOf(settings: SandboxSettings, place: SandboxPlace, user: BuildUser, processes: UserProcesses): Sandbox {
  const { memoryBytesMax, processesMax, diskBytesMax, sharesTools } = settings;
  const openEnvironment = onceFor(makeReadable);
  const asUser = ["setpriv", "--reuid", String(user.uid), "--regid", String(user.gid), "--clear-groups"];
  const endCommand = ["sh", "-c", endScript, "end", String(user.uid)];
  return {
    level: "user",
    owner: user,
    async confine(tree, environment) {
      const home = sharesTools ? place.sharedHome : join(tree.folder, "home");
      const temporary = await giveTree(tree, user);
      await ownFolder(home, user);
      if (environment !== undefined) await openEnvironment(environment);
      const limits: ProcessLimits = {
        memoryBytesMax,
        processesMax,
        disk: { folder: tree.folder, bytesMax: diskBytesMax, measure: () => measureTree(tree.folder) },
      };
      // The kernel counts the processes of all builds together; the watch, those of each.
      const processesOfAll = processesMax * (settings.slots + 1);
      const before = [...asUser, "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all", "--"];
      const bounds = ["prlimit", `--nproc=${processesOfAll}`, `--fsize=${diskBytesMax}`, "--core=0", "--"];
      return ({ argv, cwd, env }) => ({
        argv: [...before, ...bounds, ...argv],
        cwd,
        env: { ...insideOf(env, home, temporary), USER: user.name, LOGNAME: user.name },
        limits,
        beyond: {
          started: (leaderPid) => processes.started(leaderPid),
          end: (leaderPid) => processes.end(leaderPid),
          endCommand,
        },
      });
    },
  };
}

/** Invariant 1. */
async function openHome({ agentHome, buildFolder, sharedHome }: SandboxPlace, user: BuildUser): Promise<void> {
  const trees = join(buildFolder, "trees");
  await mkdir(trees, { recursive: true, mode: 0o700 });
  for (const folder of [agentHome, buildFolder]) {
    for (const { name } of await readdir(folder, { withFileTypes: true })) await shut(join(folder, name));
  }
  for (const folder of [agentHome, buildFolder, trees]) await letPass(folder, user);
  // Nothing in the cache is secret, and other processes of this machine use it.
  const cache = dirname(sharedHome);
  await mkdir(cache, { recursive: true });
  await addMode(cache, 0o011);
}

/** For nobody but its owner. */
async function shut(path: string): Promise<void> {
  const found = await lstat(path);
  if (!found.isSymbolicLink()) await chmod(path, found.mode & 0o700);
}

function adviceOnFolders(barrier: string): string {
  return `keep FLASHYARD_HOME and FLASHYARD_CACHE below a folder like /var/lib, or \`chmod o+x ${barrier}\``;
}

/** The first on the way, the end included, that the user cannot pass or run. */
async function barrierFor(path: string, user: BuildUser): Promise<string | undefined> {
  const above = dirname(path);
  const barrier = above === path ? undefined : await barrierFor(above, user);
  if (barrier !== undefined) return barrier;
  const { mode, uid, gid } = await stat(path);
  const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
  return (mode & bit) === 0 ? path : undefined;
}

/** An environment lies in a folder of its maker's alone, and may have been made with a strict umask. */
async function makeReadable(environment: string): Promise<void> {
  for (const above of [dirname(dirname(environment)), dirname(environment)]) await addMode(above, 0o011);
  await openAll(environment);
}

async function openAll(folder: string): Promise<void> {
  await addMode(folder, 0o055);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await openAll(path);
    else if (entry.isFile()) await addMode(path, ((await stat(path)).mode & 0o100) === 0 ? 0o044 : 0o055);
  }
}

async function addMode(path: string, bits: number): Promise<void> {
  const mode = (await stat(path)).mode & 0o7777;
  if ((mode & bits) !== bits) await chmod(path, mode | bits);
}

function onceFor(work: (key: string) => Promise<void>): (key: string) => Promise<void> {
  const done = new Map<string, Promise<void>>();
  return (key) => {
    const doing = done.get(key) ?? work(key);
    done.set(key, doing);
    return doing;
  };
}
