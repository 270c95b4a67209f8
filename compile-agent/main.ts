/** Entry of a compile agent's process: environment, wiring, signals. With `--check` it only reads its settings and ends. */
import { join } from "node:path";
import {
  automaticMemoryBytes,
  type CompileSettings,
  readAgentSettings,
  readCompileSettings,
  thisMachine,
} from "#actor/agent-settings.ts";
import { systemClock } from "#actor/clock.ts";
import { createLog, type Log } from "#actor/log.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import type { CompileCapabilities } from "#protocol/agent.ts";
import { messageOf } from "#protocol/errors.ts";
import { buildSigner } from "#bus/identity/build-signer.ts";
import { JobLogWriter, publishProgress } from "#bus/job-log.ts";
import { type AgentWorld, type LaneWork, runLaneAgent } from "#bus/lane-agent.ts";
import { onPrefetch } from "#bus/lanes.ts";
import { statementPauseMs } from "#bus/presence.ts";
import { BundleCache } from "#compile-agent/bundle-cache.ts";
import { inTurn, plainCapabilities, readCapabilities } from "#compile-agent/capabilities.ts";
import { compileHandler } from "#compile-agent/compile-job.ts";
import { chooseSandbox } from "#compile-agent/sandbox/choose.ts";
import { defaultTreesBytesMax, type Removal, Workspace } from "#compile-agent/workspace.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { findPythons } from "#toolchain/python.ts";

/** A reading of the trees that takes longer than this says that the disk hangs; no job waits for it. */
const readMsMax = 5_000;

/** Wires the lane. What a killed predecessor has left is removed: builds whose results it had not sent run again. */
async function prepare(
  { settings, connection, credentials, bundles: store, artifacts, ledger, clock, log }: AgentWorld,
  compileSettings: CompileSettings,
): Promise<LaneWork> {
  const pythonHint = process.env.FLASHYARD_PYTHON;
  const { environmentsMax, treesBytesMax = await defaultTreesBytesMax(settings.home) } = compileSettings;
  const workspace = new Workspace(join(settings.home, "build"), { clock, onMeasured: () => void keepWithinLimit() });
  // Gigabytes, perhaps: the lane opens meanwhile, because no build will find them.
  void removeLeftovers(workspace, log);
  const environments = new EsphomeEnvironments({
    cacheFolder: settings.cacheFolder,
    clock,
    log,
    pythonHint,
    variables: mirrors(process.env),
    ledger,
    keepMax: environmentsMax,
  });
  const { pythons } = await findPythons({ hint: pythonHint });
  const { memoryBytesMax = automaticMemoryBytes(settings.slots, thisMachine()), ...limits } = compileSettings.sandbox;
  const sandbox = await chooseSandbox(
    limits.level,
    { ...limits, memoryBytesMax, slots: settings.slots, engineVariables: engineVariables(process.env) },
    {
      agentHome: settings.home,
      buildFolder: join(settings.home, "build"),
      sharedHome: join(settings.cacheFolder, "builds-home"),
      python: pythons[0]?.path,
    },
  );
  // Its builds read the environments that are made from here on; what they must not read lies in closed folders.
  if (sandbox.level === "user") process.umask(0o022);
  log.info({ sandbox: sandbox.level, wanted: limits.level }, "builds run in this sandbox");
  const plain = { ...plainCapabilities(pythons, compileSettings), sandbox: sandbox.level };
  let tell: (capabilities: CompileCapabilities) => void = () => {};
  const announceTrees = inTurn(async () => {
    const hasRead = new AbortController();
    const reading = readCapabilities(environments, workspace, plain)
      .then(tell)
      .catch((error: unknown) => log.warn({ err: error }, "the capabilities cannot be told"))
      .finally(() => hasRead.abort());
    await Promise.race([reading, clock.pause(readMsMax, hasRead.signal)]);
    // A statement that follows another one waits for the pause between them.
    await clock.pause(statementPauseMs);
    await connection.flush().catch(() => undefined);
  });
  const bundles = new BundleCache(join(settings.home, "bundles"), store, clock);
  onPrefetch(connection, settings.agent, (hint) => {
    if ("bundle" in hint) void bundles.prefetch(hint.bundle);
  });
  // Also tells what the build that has just ended has left.
  const keepWithinLimit = inTurn(async () => {
    const { signal } = new AbortController();
    await workspace.makeRoom(treesBytesMax, { signal, onOut: announceTrees }).then(
      (removal) => logStuck(removal?.stuck, "a build tree that is one too many cannot be removed", log),
      (error: unknown) => log.warn({ err: error }, "no room can be made among the build trees"),
    );
  });
  const handler = compileHandler({
    bundles,
    artifacts,
    workspace,
    environments,
    ledger,
    sandbox,
    agent: settings.agent,
    ...(credentials === undefined ? {} : { sign: buildSigner(credentials) }),
    clock,
    openLog: (chain, job) => new JobLogWriter(connection, settings.agent, chain, job),
    say: (chain, job, progress) => publishProgress(connection, settings.agent, chain, job, progress),
    announceTrees,
  });
  return {
    handler,
    compile: plain,
    onOpen(worker) {
      tell = (compile) => worker.setCapabilities({ compile });
      void announceTrees();
      // The limit may be another one than before.
      void keepWithinLimit();
    },
  };
}

async function removeLeftovers(workspace: Workspace, log: Log): Promise<void> {
  logStuck(await workspace.removeLeftovers(), "what a former run left cannot be removed", log);
}

function logStuck(stuck: Removal["stuck"], message: string, log: Log): void {
  if (stuck !== undefined) log.warn({ path: stuck.path, err: stuck.error }, message);
}

/** By which the commands of docker and podman find their engines. */
function engineVariables(env: NodeJS.ProcessEnv): Record<string, string> {
  const isEngines = ([name]: [string, string | undefined]) => /^(DOCKER|CONTAINER|CONTAINERS)_/.test(name);
  return Object.fromEntries(Object.entries(env).filter(isEngines)) as Record<string, string>;
}

/** ESPHome's own mirror settings; nothing else of this process's environment reaches a build. */
function mirrors(env: NodeJS.ProcessEnv): Record<string, string> {
  const isMirror = ([name]: [string, string | undefined]) => /^ESPHOME_\w*(MIRRORS?|PCH_ENABLE)$/.test(name);
  return Object.fromEntries(Object.entries(env).filter(isMirror)) as Record<string, string>;
}

const stopping = new AbortController();
try {
  const settings = readAgentSettings(process.env, "compile");
  const compileSettings = readCompileSettings(process.env);
  const log = createLog({ role: "compile-agent", agent: settings.agent, lane: "compile" }, settings.logLevel);
  onShutdown(async () => stopping.abort());
  if (process.env.FLASHYARD_SUPERVISED === "1") onOrphaned(() => stopping.abort());
  const isCheck = process.argv.includes("--check");
  if (!isCheck) {
    await runLaneAgent({
      settings,
      lane: "compile",
      clock: systemClock,
      log,
      signal: stopping.signal,
      prepare: (world) => prepare(world, compileSettings),
    });
  }
} catch (error) {
  process.stderr.write(`compile-agent: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
