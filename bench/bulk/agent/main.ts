/**
 * The process of an agent in the benchmark: the lane worker, the lane and the stores of production, with a handler whose durations
 * are commanded.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { systemClock } from "#actor/clock.ts";
import { LaneWorker } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { folderSpool } from "#actor/result-spool.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import type { CompileCapabilities } from "#protocol/agent.ts";
import { BootId } from "#protocol/ids.ts";
import type { Ask, AskAnswer } from "#protocol/messages.ts";
import { farmVersion } from "#protocol/version.ts";
import { askCoordinator } from "#bus/agent-client.ts";
import { connect } from "#bus/connection.ts";
import { laneSource } from "#bus/lanes.ts";
import { announce } from "#bus/presence.ts";
import { AgentPlan, type AgentWord } from "#bench/bulk/agent-plan.ts";
import { esphomeVersion } from "#bench/bulk/chain-request.ts";
import { handlerFor } from "#bench/bulk/handlers.ts";

const capabilities: CompileCapabilities = {
  esphomeVersions: [esphomeVersion],
  makesEnvironments: false,
  pythons: [],
  cpus: 1,
  memoryBytes: 1,
  warm: [],
};

function say(word: AgentWord): void {
  process.stdout.write(`${JSON.stringify(word)}\n`);
}

const stopping = Promise.withResolvers<void>();
onShutdown(async () => stopping.resolve());
onOrphaned(() => stopping.resolve());

const { url, agent, lane, slots, work, home } = AgentPlan.parse(JSON.parse(process.argv[2] ?? ""));
const connection = await connect(url, `flashyard ${agent}`);
const ask = async (message: Ask): Promise<AskAnswer> => {
  const answer = await askCoordinator(connection, agent, message);
  if (message.kind === "report" && answer.verdict === "noted") say({ kind: "noted", chain: message.chain });
  return answer;
};
const worker = new LaneWorker({
  identity: {
    agent,
    boot: BootId.parse(randomBytes(8).toString("hex")),
    lane,
    slots,
    ...(lane === "compile" ? { compile: capabilities } : {}),
    version: farmVersion,
    host: hostname(),
    pid: process.pid,
  },
  source: laneSource(connection, lane, agent, slots, silentLog),
  link: { ask, announce: (statement) => announce(connection, statement), ping: () => connection.rtt() },
  handler: handlerFor(work, { connection, agent, home, say }),
  spool: folderSpool(join(home, "results")),
  clock: systemClock,
  log: silentLog,
});
await worker.start();
say({ kind: "lane-open" });
await stopping.promise;
await worker.stop();
await connection.close();
