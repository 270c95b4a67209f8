/** Entry of a compile agent's process: environment, wiring, signals. With `--check` it only reads its settings and ends. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { readAgentSettings } from "#actor/agent-settings.ts";
import { systemClock } from "#actor/clock.ts";
import { createLog } from "#actor/log.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import { messageOf } from "#protocol/errors.ts";
import { objectStores } from "#protocol/names.ts";
import { JobLogWriter, publishProgress } from "#bus/job-log.ts";
import { type AgentWorld, type LaneWork, runLaneAgent } from "#bus/lane-agent.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { readCapabilities } from "#compile-agent/capabilities.ts";
import { compileHandler } from "#compile-agent/compile-job.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { findPythons } from "#toolchain/python.ts";

/** Wires the lane. Results of builds that a killed predecessor had not sent are removed: those builds run again. */
async function prepare({ settings, connection, ledger, clock, log }: AgentWorld): Promise<LaneWork> {
  const pythonHint = process.env.FLASHYARD_PYTHON;
  const workspace = new Workspace(join(settings.home, "build"));
  for (const folder of await workspace.leftResults()) await rm(folder, { recursive: true, force: true });
  const environments = new EsphomeEnvironments({
    cacheFolder: settings.cacheFolder,
    clock,
    log,
    pythonHint,
    variables: mirrors(process.env),
    ledger,
  });
  const { pythons } = await findPythons({ hint: pythonHint });
  let onBuilt = () => {};
  const handler = compileHandler({
    bundles: new ObjectStore(connection, objectStores.bundles),
    artifacts: new ObjectStore(connection, objectStores.artifacts),
    workspace,
    environments,
    ledger,
    clock,
    openLog: (chain) => new JobLogWriter(connection, chain, "compile"),
    say: (chain, progress) => publishProgress(connection, chain, "compile", progress),
    onBuilt: () => onBuilt(),
  });
  return {
    handler,
    onOpen(worker) {
      onBuilt = () => {
        readCapabilities(environments, workspace, pythons).then(
          (compile) => worker.setCapabilities({ compile }),
          (error: unknown) => log.warn({ err: error }, "the capabilities cannot be read"),
        );
      };
      onBuilt();
    },
  };
}

/** ESPHome's own mirror settings; nothing else of this process's environment reaches a build. */
function mirrors(env: NodeJS.ProcessEnv): Record<string, string> {
  const isMirror = ([name]: [string, string | undefined]) => /^ESPHOME_\w*(MIRRORS?|PCH_ENABLE)$/.test(name);
  return Object.fromEntries(Object.entries(env).filter(isMirror)) as Record<string, string>;
}

const stopping = new AbortController();
try {
  const settings = readAgentSettings(process.env, "compile");
  const log = createLog({ role: "compile-agent", agent: settings.agent, lane: "compile" }, settings.logLevel);
  onShutdown(async () => stopping.abort());
  if (process.env.FLASHYARD_SUPERVISED === "1") onOrphaned(() => stopping.abort());
  const isCheck = process.argv.includes("--check");
  if (!isCheck)
    await runLaneAgent({ settings, lane: "compile", clock: systemClock, log, signal: stopping.signal, prepare });
} catch (error) {
  process.stderr.write(`compile-agent: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
