/**
 * kill -9 of every part of the farm in the middle of its work. Each request ends as what the device itself says, no device
 * is flashed twice for one request, and the command line that follows comes through with the right exit code.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { isRunning, runningIn } from "#test/support/process-table.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import { type Cli, RealFarm } from "#test/support/real-farm.ts";

/** An image of half a megabyte takes some seconds: time for a kill in its middle. */
const slowBytesPerSecond = 60_000;

let farm: RealFarm;
let lamp: RealDevice;
let edition = 0;

beforeAll(async () => {
  farm = await RealFarm.start();
  lamp = await farm.device("lamp");
  // From here on the tree is warm, and each build takes seconds.
  await expectInstalled(await farm.install(lamp, { edition: ++edition }));
});
afterAll(() => farm[Symbol.asyncDispose]());

/** The request succeeded by exactly one flash since `before`, and the device itself runs the newest edition. */
async function expectInstalled(install: Cli, before = lamp.flashes().length): Promise<void> {
  expect(await install.end()).toMatchObject({ code: 0 });
  expect(await lamp.runs()).toBe(edition);
  expect(lamp.flashes()).toHaveLength(before + 1);
  expect(lamp.flashes().at(-1)).toMatchObject({ committed: true, imageDigest: await lamp.flashDigest() });
  expect((await lamp.report())?.compilationTime).toBe(install.last("upload").outcome?.report?.compilationTime);
}

/** Until the image of the flash after `before` others is on its way to the device, and not there yet. */
async function flashIsUnderWay(before: number): Promise<void> {
  await lamp.untilSession(({ id, dataBytes }) => id > before && dataBytes > 0);
  expect(lamp.sessions().at(-1)).toMatchObject({ sizeSeen: true, committed: false });
}

/** Kills a member once while a build runs and once while the device is flashed. */
async function killTwice(member: string): Promise<void> {
  const before = lamp.flashes().length;
  const connections = lamp.sessions().length;
  lamp.throttle(slowBytesPerSecond);
  const install = await farm.install(lamp, { edition: ++edition });
  await install.event({ kind: "job", job: "compile", state: "running" });
  const first = farm.kill(member);
  await farm.restarted(member, first);
  await flashIsUnderWay(connections);
  const second = farm.kill(member);
  await farm.restarted(member, second);
  lamp.throttle(undefined);
  await expectInstalled(install, before);
  expect([first, second].map(isRunning)).toEqual([false, false]);
}

test("a coordinator that is killed while it builds and while it flashes is missed by nobody", () =>
  killTwice("coordinator"));

test("a nats-server that is killed while it builds and while it flashes loses nothing", () => killTwice("nats-server"));

test("the build of a killed compile agent dies, and is built and flashed once by its successor", async () => {
  const before = lamp.flashes().length;
  const install = await farm.install(lamp, { edition: ++edition });
  const build = await poll(systemClock, { everyMs: 5, withinMs: 60_000 }, () => {
    const processes = runningIn(join(farm.home, "agents"));
    return processes.some((process) => process.includes("cc1plus")) ? processes : undefined;
  });
  farm.kill("build-1");
  expect(build?.length).toBeGreaterThan(1);
  // The successor says nothing, and so gets nothing, before the compiler is dead as well.
  await install.event({ kind: "job", job: "compile", state: "running", attempt: 2 });
  const left = build?.filter((process) => isRunning(Number(process.split(" ")[0])));
  expect(left).toEqual([]);
  await expectInstalled(install, before);
  expect(install.last("compile")).toMatchObject({ state: "succeeded", attempt: 2 });
});

test("an upload agent that is killed before it flashes is followed by one that flashes once", async () => {
  // A device that answers nothing keeps the agent busy with asking, so that it cannot get as far as flashing.
  const before = lamp.flashes().length;
  lamp.freeze();
  const install = await farm.install(lamp, { edition: ++edition });
  try {
    await install.event({ kind: "job", job: "upload", state: "running" });
    await farm.restarted("flash-1", farm.kill("flash-1"));
    expect(lamp.flashes()).toHaveLength(before);
  } finally {
    lamp.thaw();
  }
  await expectInstalled(install, before);
  expect(install.last("upload").attempt).toBe(2);
});

test("an upload agent that is killed before it could say that its device took the image has it said by its successor", async () => {
  const flashes = lamp.flashes().length;
  const connections = lamp.sessions().length;
  lamp.throttle(slowBytesPerSecond);
  const install = await farm.install(lamp, { edition: ++edition });
  await flashIsUnderWay(connections);
  // Nothing gets out of an agent while the server stands still.
  process.kill(farm.pidOf("nats-server"), "SIGSTOP");
  try {
    lamp.throttle(undefined);
    await lamp.untilSession(({ id, committed }) => id > connections && committed);
    await farm.restarted("flash-1", farm.kill("flash-1"));
  } finally {
    process.kill(farm.pidOf("nats-server"), "SIGCONT");
  }
  await expectInstalled(install, flashes);
});

test("after an upload agent was killed in mid-flash the device is asked, not flashed again, and its word is the outcome", async () => {
  const flashes = lamp.flashes().length;
  const connections = lamp.sessions().length;
  const compiled = (await lamp.report())?.compilationTime;
  lamp.throttle(slowBytesPerSecond);
  const install = await farm.install(lamp, { edition: ++edition });
  await flashIsUnderWay(connections);
  await farm.restarted("flash-1", farm.kill("flash-1"));
  lamp.throttle(undefined);
  // It waits a minute for a device that may be restarting into the new build.
  expect(await install.end()).toMatchObject({ code: 1 });
  expect(install.last("upload")).toMatchObject({
    state: "failed",
    attempt: 2,
    outcome: { kind: "failed", failure: { kind: "not-running" } },
    reason: expect.stringContaining(`built ${compiled}`) as string,
  });
  expect(lamp.flashes()).toHaveLength(flashes + 1);
  expect(lamp.flashes().at(-1)).toMatchObject({ committed: false });
  expect(await lamp.runs()).toBe(edition - 1);
  expect((await lamp.report())?.compilationTime).toBe(compiled);
});

test("a device whose flash was broken off by a kill takes the next one", async () => {
  await expectInstalled(await farm.install(lamp, { edition: ++edition }));
});
