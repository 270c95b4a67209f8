/** Entry of an upload agent's process: environment, wiring, signals. With `--check` it only reads its settings and ends. */
import { readAgentSettings } from "#actor/agent-settings.ts";
import { systemClock } from "#actor/clock.ts";
import { createLog } from "#actor/log.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import { messageOf } from "#protocol/errors.ts";
import { objectStores } from "#protocol/names.ts";
import { JobLogWriter, publishProgress } from "#bus/job-log.ts";
import { type AgentWorld, type LaneWork, runLaneAgent } from "#bus/lane-agent.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { uploadHandler } from "#upload-agent/upload-job.ts";

async function prepare({ connection, clock }: AgentWorld): Promise<LaneWork> {
  const handler = uploadHandler({
    artifacts: new ObjectStore(connection, objectStores.artifacts),
    clock,
    openLog: (chain, job) => new JobLogWriter(connection, chain, job),
    say: (chain, job, progress) => publishProgress(connection, chain, job, progress),
  });
  return { handler };
}

const stopping = new AbortController();
try {
  const settings = readAgentSettings(process.env, "upload");
  const log = createLog({ role: "upload-agent", agent: settings.agent, lane: "upload" }, settings.logLevel);
  onShutdown(async () => stopping.abort());
  if (process.env.FLASHYARD_SUPERVISED === "1") onOrphaned(() => stopping.abort());
  const isCheck = process.argv.includes("--check");
  if (!isCheck)
    await runLaneAgent({ settings, lane: "upload", clock: systemClock, log, signal: stopping.signal, prepare });
} catch (error) {
  process.stderr.write(`upload-agent: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
