/** The process of an agent as far as it is the same for every lane, over a real server. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { type AgentSettings, readAgentSettings } from "#actor/agent-settings.ts";
import { poll, systemClock } from "#actor/clock.ts";
import type { JobHandler } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { isConnected } from "#bus/agent-alive.ts";
import type { Connection } from "#bus/connection.ts";
import { type LaneWork, runLaneAgent } from "#bus/lane-agent.ts";
import { publishDispatch } from "#bus/lanes.ts";
import { watchPresence } from "#bus/presence.ts";
import { declareTopology } from "#bus/topology.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { JobResult } from "#protocol/job.ts";
import { answerAsks } from "#test/support/answered-asks.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { built, chainNumber, statementOf } from "#test/support/farm-builders.ts";
import { compileDispatch } from "#test/support/lane-bench.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
let server: TestServer;
let connection: Connection;
let stopping: AbortController;
let running: Promise<void>;
let statements: Arrivals<Announcement>;

beforeEach(async () => {
  [home, server] = await Promise.all([temporaryFolder(), testServer()]);
  connection = await server.connect();
  await declareTopology(connection);
  stopping = new AbortController();
  running = Promise.resolve();
  statements = new Arrivals("statement");
  void watchPresence(connection, stopping.signal, statements.push).catch(() => undefined);
  answerAsks(connection);
});
afterEach(async () => {
  stopping.abort();
  await running;
  await server[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

function start(work: LaneWork, env: NodeJS.ProcessEnv = {}): AgentSettings {
  const own = { FLASHYARD_NATS_URL: server.url, FLASHYARD_AGENT: "builder", FLASHYARD_HOME: home.path };
  const settings = readAgentSettings({ ...own, FLASHYARD_SLOTS: "1", ...env }, "compile");
  const prepare = async () => work;
  const { signal } = stopping;
  running = runLaneAgent({ settings, lane: "compile", clock: systemClock, log: silentLog, signal, prepare });
  return settings;
}

const idle: JobHandler = async () => built();

test("the server knows whether it is there", async () => {
  const { agent } = start({ handler: idle });
  await statements.next();
  expect(await isConnected(connection, agent)).toBe(true);
  stopping.abort();
  await running;
  const limits = { everyMs: 10, withinMs: 5_000 };
  const isGone = await poll(systemClock, limits, async () =>
    (await isConnected(connection, agent)) ? undefined : true,
  );
  expect(isGone).toBe(true);
});

test("what runs beside the lane starts before its first statement, and stops after its last job", async () => {
  const said: string[] = [];
  const service = (name: string) => ({
    start: async () => void said.push(`${name} starts`),
    stop: async () => void said.push(`${name} stops`),
    [Symbol.asyncDispose]: async () => void said.push(`${name} stops`),
  });
  start({ handler: idle, services: [service("one"), service("two")] });
  await statements.next();
  expect(said).toEqual(["one starts", "two starts"]);
  stopping.abort();
  await running;
  expect(said.slice(2)).toEqual(["two stops", "one stops"]);
});

test("its first statement has its labels and what it may build", async () => {
  const compile = { ...statementOf("builder", "compile").compile!, pinnedPlatforms: ["host"] };
  start({ handler: idle, compile }, { FLASHYARD_LABELS: "fast,attic" });
  expect(await statements.next()).toMatchObject({ labels: ["fast", "attic"], compile: { pinnedPlatforms: ["host"] } });
});

test("one slot builds the next job while the images of the one before are sent", async () => {
  const sending = Promise.withResolvers<JobResult>();
  const begun = new Arrivals<string>("build");
  const handler: JobHandler = async ({ chain }, attempt) => {
    begun.push(chain);
    if (chain !== chainNumber(1)) return built();
    await attempt.release();
    return sending.promise;
  };
  const { agent } = start({ handler });
  await publishDispatch(connection, agent, compileDispatch(1));
  expect(await begun.next()).toBe(chainNumber(1));
  const isStoring = ({ holding }: Announcement) => holding.some((held) => held.isStoring === true);
  const storing = await statements.next(isStoring);
  expect(storing.idleSince).not.toBeNull();
  await publishDispatch(connection, agent, compileDispatch(2));
  expect(await begun.next()).toBe(chainNumber(2));
  await statements.next(({ holding }) => holding.length === 1 && holding[0]!.chain === chainNumber(1));
  sending.resolve(built());
  await statements.next(({ holding }) => holding.length === 0);
});
