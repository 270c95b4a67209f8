/** The rules of the queue through the real coordinator and a real nats-server. */
import { expect, test } from "vitest";
import { askAdmin } from "#bus/farm-client.ts";
import { JobLogWriter, readJobLog } from "#bus/job-log.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { silentLog } from "#actor/log.ts";
import { siblingIds } from "#protocol/ids.ts";
import { HistoryKeeper } from "#coordinator/history-keeper.ts";
import { Memory } from "#coordinator/memory.ts";
import {
  agentNamed,
  built,
  buildRequest,
  chainNumber,
  cleaned,
  failedWith,
  failures,
  flashed,
  installRequest,
  renameRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

test("a whole bulk is one commit, answered before anything runs; cancelling all of it is one too", async () => {
  await using farm = await ServedFarm.start();
  const requests = Array.from({ length: 400 }, (_, index) => installRequest(index + 1));
  expect((await farm.submit(...requests)).chains).toHaveLength(400);
  expect(await farm.status()).toMatchObject({ live: 400, queueDepth: 400 });
  const { chains } = await farm.ask("cancelling", { v: 1, kind: "cancel", of: { all: true } });
  expect(chains).toHaveLength(400);
  await farm.untilArchived();
  expect((await farm.chain("device 400")).upload?.outcome).toEqual({ kind: "cancelled", cause: "request" });
});

test("requests that would be more than one batch are refused whole", async () => {
  await using farm = await ServedFarm.start();
  const of = (from: number) =>
    Array.from({ length: 501 }, (_, n) => buildRequest(from + n, { configuration: `device ${n}` }));
  await farm.submit(...of(1));
  const refused = await farm.ask("refused", { v: 1, kind: "submit", chains: of(1_001) });
  expect(refused).toMatchObject({ code: "bulk-too-large" });
  expect(await farm.status()).toMatchObject({ live: 501 });
});

test("many requests that come at once are each accepted, though together they are more than one batch", async () => {
  await using farm = await ServedFarm.start();
  const bulks = Array.from({ length: 4 }, (_, bulk) =>
    Array.from({ length: 400 }, (__, index) => buildRequest(bulk * 400 + index + 1)),
  );
  const answers = await Promise.all(bulks.map((bulk) => farm.submit(...bulk)));
  expect(answers.map(({ chains }) => chains.length)).toEqual([400, 400, 400, 400]);
  expect(await farm.status()).toMatchObject({ live: 1_600 });
});

test("a clean ends the build in its tree, cleans where the tree is, and lets the next install go on", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder", { warm: ["device 1"] });
  await farm.untilKnown("builder");
  await farm.submit(installRequest(1));
  const build = await builder.next();
  await build.claim();
  expect(await farm.clean(2, "device 1")).toMatchObject({ chains: [chainNumber(2)], superseded: [chainNumber(1)] });
  await farm.submit(installRequest(3));
  await builder.stops.next();
  await build.report({ kind: "stopped" });
  const clean = await builder.next();
  expect(clean.dispatch).toMatchObject({ job: "clean", configuration: "device 1", trees: "configuration" });
  await clean.claim();
  await clean.report(cleaned);
  expect((await builder.next()).dispatch).toMatchObject({ job: "compile", chain: chainNumber(3) });
  expect(await farm.clean(2, "device 1")).toMatchObject({ chains: [chainNumber(2)] });
});

test("a reset survives a restart of the coordinator in its middle, and gates a fresh upload until its end", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  const flasher = await farm.agent("upload", "flasher");
  await farm.untilKnown("builder");
  await farm.submit(buildRequest(1));
  const build = await builder.next();
  await build.claim();
  await farm.reset(2);
  await farm.restartCoordinator();
  await farm.submit(uploadRequest(3));
  expect((await farm.chain(chainNumber(2))).clean?.state).toBe("held");
  await build.report({ kind: "stopped" });
  const wipe = await builder.next();
  expect(wipe.dispatch).toMatchObject({ job: "clean", trees: "all" });
  await wipe.claim();
  expect(flasher.deliveries).toBe(0);
  await wipe.report(cleaned);
  expect((await flasher.next()).dispatch.chain).toBe(chainNumber(3));
});

test("a rename that succeeds moves what is known of the device to its new name", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(uploadRequest(1, { configuration: "lamp", host: "10.0.0.1" }));
  const first = await flasher.next();
  await first.claim();
  await first.claimFlash();
  await first.report(flashed);
  await farm.submit(renameRequest(2, { configuration: "kitchen", renamed: "lamp", host: "10.0.0.1" }));
  const build = await builder.next();
  await build.claim();
  await build.report(built());
  const flash = await flasher.next();
  await flash.claim();
  await flash.claimFlash();
  await flash.report(flashed);
  await farm.untilArchived();
  const { devices } = await farm.ask("devices", { v: 1, kind: "devices" });
  expect(devices.map(({ configuration }) => configuration)).toEqual(["kitchen"]);
  expect(await farm.history("lamp")).toEqual([chainNumber(2), chainNumber(1)]);
});

test("a person resolves an unknown upload that has long been history, once, and not when it was flashed since", async () => {
  await using farm = await ServedFarm.start();
  const flasher = await farm.agent("upload", "flasher");
  const flash = async (n: number, result: Parameters<Awaited<ReturnType<typeof flasher.next>>["report"]>[0]) => {
    await farm.submit(uploadRequest(n, { configuration: "kitchen" }));
    const job = await flasher.next();
    await job.claim();
    await job.claimFlash();
    await job.report(result);
    await farm.untilArchived();
  };
  const resolve = { v: 1 as const, kind: "resolve-device" as const, reference: "kitchen", isRunning: true };
  await flash(1, failedWith(failures.uncertain));
  expect((await farm.chain("kitchen")).upload?.state).toBe("unknown");
  await farm.restartCoordinator();
  const answers = await Promise.all([1, 2, 3].map(() => askAdmin(farm.user, resolve)));
  expect(answers.map(({ kind }) => kind).sort()).toEqual(["device-resolved", "refused", "refused"]);
  const { upload } = await farm.chain("kitchen");
  expect(upload).toMatchObject({ state: "succeeded", outcome: { level: "told" } });
  // Again and again while it goes into the history.
  while ((await farm.status()).live > 0) {
    expect(await farm.ask("refused", { ...resolve, isRunning: false })).toMatchObject({ code: "not-unknown" });
  }
  expect((await farm.chain("kitchen")).upload?.state).toBe("succeeded");
  expect(await farm.ask("refused", resolve)).toMatchObject({ code: "not-unknown" });
  await flash(2, failedWith(failures.uncertain));
  await flash(3, flashed);
  expect(await farm.ask("refused", resolve)).toMatchObject({ code: "not-unknown" });
});

test("the history says what failed, and loses old chains with their logs, but never a device's last", async () => {
  await using farm = await ServedFarm.start();
  const flasher = await farm.agent("upload", "flasher");
  for (const n of [1, 2, 3]) {
    await farm.submit(uploadRequest(n, { configuration: n === 1 ? "cellar" : "kitchen" }));
    const job = await flasher.next();
    await job.claim();
    const log = new JobLogWriter(farm.user, agentNamed("flasher"), chainNumber(n), "upload");
    log.line(`flash ${n}`);
    await log.close();
    await job.claimFlash();
    await job.report(n === 2 ? failedWith(failures.partial) : flashed);
    await farm.untilArchived();
  }
  expect(await farm.history()).toEqual([3, 2, 1].map((n) => chainNumber(n)));
  expect(await farm.history("kitchen", true)).toEqual([chainNumber(2)]);
  const ports = coordinatorPorts(farm.user);
  const memory = new Memory(ports, farm.clock);
  const limits = { chainsMax: 0, ageMsMax: 0 };
  const keeper = new HistoryKeeper(ports, memory, farm.clock, silentLog, limits, (id) => id === chainNumber(2));
  expect(await keeper.prune()).toBe(0);
  expect(await new HistoryKeeper(ports, memory, farm.clock, silentLog, limits, () => false).prune()).toBe(1);
  expect(await farm.history()).toEqual([3, 1].map((n) => chainNumber(n)));
  const logs: (readonly string[])[] = [];
  for (const n of [1, 2, 3]) {
    const lines: string[] = [];
    for await (const { line } of readJobLog(farm.user, chainNumber(n), ["upload"])) lines.push(line);
    logs.push(lines);
  }
  expect(logs).toEqual([["flash 1"], [], ["flash 3"]]);
});

test("a reset of several agents makes a chain for each", async () => {
  await using farm = await ServedFarm.start();
  for (const name of ["builder-1", "builder-2"]) {
    await farm.agent("compile", name);
    await farm.untilKnown(name);
  }
  expect((await farm.reset(1)).chains).toEqual(siblingIds(chainNumber(1), 2));
});
