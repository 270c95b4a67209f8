/**
 * A thousand agents in one process, over a few connections: half of them build, half flash, one job at a time each. Lane workers and
 * statements are those of production; the jobs only take their time.
 */
import { systemClock } from "#actor/clock.ts";
import { type JobHandler, LaneWorker } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { memorySpool } from "#actor/result-spool.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import { askCoordinator } from "#bus/agent-client.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { inOrder } from "#bus/in-order.ts";
import { laneSource } from "#bus/lanes.ts";
import { announce } from "#bus/presence.ts";
import { AgentsPlan, agentsOpenWords } from "#bench/scale/agents-plan.ts";
import { manifestNumber } from "#bench/scale/ended-chain.ts";
import { identityNumber } from "#bench/scale/simulated-agent.ts";

const agentsPerConnection = 100;
const openingsMax = 32;

const stopping = Promise.withResolvers<void>();
onShutdown(async () => stopping.resolve());
onOrphaned(() => stopping.resolve());

const { url, agents, buildMs, uploadMs } = AgentsPlan.parse(JSON.parse(process.argv[2] ?? ""));

const handler: JobHandler = async (dispatch, attempt) => {
  if (dispatch.job === "upload") {
    if ((await attempt.claimFlash()) !== "go") return { kind: "stopped" };
    await systemClock.pause(uploadMs);
    return { kind: "flashed", level: "committed", wrote: true, flashMs: uploadMs };
  }
  if (!(await systemClock.pause(buildMs, attempt.signal))) return { kind: "stopped" };
  return { kind: "built", manifest: manifestNumber(1), buildMs };
};

async function openWorker(connection: Connection, number: number): Promise<LaneWorker> {
  const identity = identityNumber(number);
  const { agent, lane, slots } = identity;
  const worker = new LaneWorker({
    identity,
    source: laneSource(connection, lane, agent, slots, silentLog),
    link: {
      ask: (ask) => askCoordinator(connection, agent, ask),
      announce: (statement) => announce(connection, statement),
      ping: () => connection.rtt(),
    },
    handler,
    spool: memorySpool(),
    clock: systemClock,
    log: silentLog,
  });
  await worker.start();
  return worker;
}

const connections = await Promise.all(
  Array.from({ length: Math.ceil(agents / agentsPerConnection) }, (_, number) => connect(url, `agents-${number}`)),
);
const numbers = Array.from({ length: agents }, (_, number) => number);
const workers: LaneWorker[] = [];
const openOne = async (number: number) => {
  const connection = connections[number % connections.length];
  return connection === undefined ? undefined : openWorker(connection, number);
};
for await (const worker of inOrder(numbers, () => openingsMax, openOne)) if (worker !== undefined) workers.push(worker);
process.stdout.write(`${agentsOpenWords}\n`);
await stopping.promise;
await Promise.all(workers.map((worker) => worker.stop()));
await Promise.all(connections.map((connection) => connection.close()));
