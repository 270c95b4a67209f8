/** A compile agent as the process that it is, with the test as its coordinator: what it says, and in which order. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { plainEnvironment } from "#actor/subprocess.ts";
import type { Connection } from "#bus/connection.ts";
import { publishDispatch } from "#bus/lanes.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { watchPresence } from "#bus/presence.ts";
import { declareTopology } from "#bus/topology.ts";
import { readJobLog } from "#bus/job-log.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import type { Announcement } from "#protocol/agent.ts";
import { encode } from "#protocol/envelope.ts";
import { CommandBuildSpec } from "#protocol/job.ts";
import type { JobAsk } from "#protocol/messages.ts";
import { objectStores, prefetchSubject } from "#protocol/names.ts";
import { makeCommandBundle } from "#toolchain/command-bundle.ts";
import { answerAsks } from "#test/support/answered-asks.ts";
import { compiledOnce } from "#test/support/compiled-once.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { agentNamed, chainNumber, configurationNamed } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const main = join(import.meta.dirname, "../../compile-agent/main.ts");
const agent = agentNamed("builder");
let home: TemporaryFolder;
let server: TestServer;
let connection: Connection;
let child: ChildProcess;
let heard: Arrivals<JobAsk | Announcement>;
let watching: AbortController;

beforeEach(async () => {
  [home, server] = await Promise.all([temporaryFolder(), testServer()]);
  connection = await server.connect();
  await declareTopology(connection);
  heard = new Arrivals("word of the agent");
  watching = new AbortController();
  void watchPresence(connection, watching.signal, heard.push).catch(() => undefined);
  answerAsks(connection, heard.push);
});
afterEach(async () => {
  watching.abort();
  if (child.exitCode === null) {
    const exit = once(child, "exit");
    child.kill("SIGTERM");
    await exit;
  }
  await server[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

function start(): void {
  child = spawn(process.execPath, [main], {
    env: plainEnvironment({
      ...compiledOnce,
      FLASHYARD_NATS_URL: server.url,
      FLASHYARD_AGENT: agent,
      FLASHYARD_HOME: home.path,
      FLASHYARD_CACHE: join(home.path, "cache"),
      FLASHYARD_LOG: "silent",
    }),
    stdio: ["ignore", "inherit", "inherit"],
  });
}

const warmIn = (word: JobAsk | Announcement) =>
  "compile" in word ? word.compile?.warm.map((tree) => tree.configuration) : undefined;

const isReport = (word: JobAsk | Announcement) => "kind" in word && word.kind === "report";

test("the coordinator hears that trees are gone before it hears that the clean is over", async () => {
  const workspace = new Workspace(join(home.path, "build"));
  for (const name of ["lamp", "fan"]) {
    await workspace.withTree(
      { version: "2026.10.0", configuration: configurationNamed(name) },
      undefined,
      ({ source }) => writeFile(join(source, "object.o"), "warm"),
    );
  }
  await mkdir(join(home.path, "build", "removed", "half"), { recursive: true });
  start();
  await heard.next((word) => warmIn(word)?.length === 2);
  await publishDispatch(connection, agent, {
    v: 1,
    job: "clean",
    chain: chainNumber(1),
    attempt: 1,
    configuration: configurationNamed("lamp"),
    trees: "configuration",
  });
  const report = await heard.next(isReport);
  expect(report).toMatchObject({ job: "clean", attempt: 1, result: { kind: "cleaned", trees: 1 } });
  const before = heard.all.slice(0, heard.all.findIndex(isReport));
  expect(before.map(warmIn).findLast((warm) => warm !== undefined)).toEqual(["fan"]);
  expect(await readdir(join(home.path, "build", "removed"))).toEqual([]);
  const lines: string[] = [];
  for await (const { line } of readJobLog(connection, chainNumber(1), ["clean"])) lines.push(line);
  expect(lines).toEqual(["taking the build trees of lamp away", "1 build tree is gone"]);
});

test("a bundle of a hint is there when its job comes, and its images are in the store before the report", async () => {
  const project = join(home.path, "project");
  await mkdir(project);
  await writeFile(join(project, "source.txt"), "firmware");
  const bundle = await makeCommandBundle(project);
  if (!bundle.ok) throw new Error(JSON.stringify(bundle));
  const bundles = new ObjectStore(connection, objectStores.bundles);
  await bundles.put(bundle.digest, bundle.bytes);
  start();
  await heard.next((word) => "compile" in word);
  connection.publish(prefetchSubject(agent), encode({ v: 1, bundle: bundle.digest }));
  const isHere = () =>
    access(join(home.path, "bundles", bundle.digest)).then(
      () => true,
      () => undefined,
    );
  expect(await poll(systemClock, { everyMs: 10, withinMs: 10_000 }, isHere)).toBe(true);
  await bundles.remove([bundle.digest]);
  const argv = ["cp", "source.txt", "a.bin"];
  await publishDispatch(connection, agent, {
    v: 1,
    job: "compile",
    chain: chainNumber(1),
    attempt: 1,
    configuration: configurationNamed("lamp"),
    spec: CommandBuildSpec.parse({ driver: "command", bundle: bundle.digest, argv, artifacts: ["*.bin"] }),
  });
  const report = await heard.next(isReport);
  const digest = digestOf(Buffer.from("firmware"));
  const manifest = { images: [{ name: "a.bin", digest }] };
  expect(report).toMatchObject({ job: "compile", result: { kind: "built", isWarm: false, manifest } });
  expect(await new ObjectStore(connection, objectStores.artifacts).has(digest)).toBe(true);
  // Its tree is measured behind the result.
  await heard.next((word) => "compile" in word && (word.compile?.warm[0]?.bytes ?? 0) > 0);
});
