/**
 * The images of deploy/ as a farm on three NATS servers that loses its parts in the middle of their work: networks are cut, servers and
 * coordinators killed. Each request ends as what the device itself says, and no device is flashed twice for one request.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { isTerminal, JobState } from "#protocol/job.ts";
import { buckets, bucketStream } from "#protocol/names.ts";
import { ContainerFarm } from "#test/support/container-farm.ts";
import { expectInstalledOnce } from "#test/support/installed-once.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import type { Cli } from "#test/support/real-farm.ts";

/** An image of half a megabyte takes some seconds: time to cut something off in its middle. */
const slowBytesPerSecond = 60_000;

let farm: ContainerFarm;
let lamp: RealDevice;
let fan: RealDevice;
let edition = 1;

beforeAll(async () => {
  farm = await ContainerFarm.start(3);
  await Promise.all(["c1", "c2"].map((name) => farm.startCoordinator(name)));
  await Promise.all([
    farm.startAgent("build-1", "compile"),
    farm.startAgent("build-2", "compile"),
    farm.startAgent("flash-1", "upload"),
  ]);
  [lamp, fan] = [await farm.device("lamp"), await farm.device("fan")];
});
afterAll(() => farm?.[Symbol.asyncDispose]());

/** What is asked of the lamp, with the flashes and connections that it has had before. */
async function ask(): Promise<{ readonly install: Cli; readonly before: number; readonly connections: number }> {
  const [before, connections] = [lamp.flashes().length, lamp.sessions().length];
  edition += 1;
  return { install: await farm.install(lamp, { edition }), before, connections };
}

/** Until the image of the newest flash is on its way to the lamp, and not there yet. */
async function flashIsUnderWay(connections: number): Promise<void> {
  await lamp.untilSession(({ id, dataBytes }) => id > connections && dataBytes > 0);
  expect(lamp.sessions().at(-1)).toMatchObject({ sizeSeen: true, committed: false });
}

test("two devices are built on two machines and flashed by a third", async () => {
  const installs = [await farm.install(lamp, { edition }), await farm.install(fan, { edition })] as const;
  await expectInstalledOnce(installs[0], lamp, { edition, before: 0 });
  await expectInstalledOnce(installs[1], fan, { edition, before: 0 });
  const builders = new Set(installs.map((install) => install.last("compile").agent));
  expect(builders).toEqual(new Set(["build-1", "build-2"]));
});

test("a build server that is cut off in the middle of a build is followed by the other one", async () => {
  const { install, before } = await ask();
  const { agent = "" } = await install.event({ kind: "job", job: "compile", state: "running" });
  await farm.cutOff(agent);
  await expectInstalledOnce(install, lamp, { edition, before });
  expect(install.last("compile")).toMatchObject({ state: "succeeded", attempt: 2 });
  expect(install.last("compile").agent).not.toBe(agent);
  await farm.reconnect(agent);
  await farm.untilOnline(agent);
});

test("an upload agent that is cut off right before it flashes does not begin, and flashes once when it is back", async () => {
  // A device that answers nothing keeps the agent busy with asking, so that it cannot get as far as flashing.
  lamp.freeze();
  const { install, before } = await ask();
  try {
    await install.event({ kind: "job", job: "upload", state: "running" });
    await farm.cutOff("flash-1");
  } finally {
    lamp.thaw();
  }
  await farm.untilOnline("flash-1", false);
  expect(lamp.flashes()).toHaveLength(before);
  await farm.reconnect("flash-1");
  await expectInstalledOnce(install, lamp, { edition, before });
});

test("an upload agent that is cut off in the middle of a flash brings it to its end, and says so when it is back", async () => {
  lamp.throttle(slowBytesPerSecond);
  const { install, before, connections } = await ask();
  await flashIsUnderWay(connections);
  await farm.cutOff("flash-1");
  lamp.throttle(undefined);
  await lamp.untilSession(({ id, committed }) => id > connections && committed);
  await farm.reconnect("flash-1");
  await expectInstalledOnce(install, lamp, { edition, before });
});

test("a leading coordinator that is killed in the middle of a flash is followed by the other one", async () => {
  lamp.throttle(slowBytesPerSecond);
  const { install, before, connections } = await ask();
  await flashIsUnderWay(connections);
  const leader = await farm.leader();
  await farm.kill(leader);
  lamp.throttle(undefined);
  await expectInstalledOnce(install, lamp, { edition, before });
  expect(await farm.leader()).not.toBe(leader);
  await farm.startAgain(leader);
});

test("the server that leads the chains is killed in the middle of a build, and nothing that was accepted is lost", async () => {
  const { install, before } = await ask();
  await install.event({ kind: "job", job: "compile", state: "running" });
  const leader = await farm.leaderOf(bucketStream(buckets.chains));
  await farm.kill(leader);
  await expectInstalledOnce(install, lamp, { edition, before });
  await farm.startAgain(leader);
  await farm.untilServes(leader);
});

test("a build server that is revoked in the middle of a build gets nothing more, and the other one builds", async () => {
  const { install, before } = await ask();
  const { agent = "" } = await install.event({ kind: "job", job: "compile", state: "running" });
  const { code, err } = await farm.cli(["agent", "revoke", agent]).end();
  expect(code, err).toBe(0);
  await expectInstalledOnce(install, lamp, { edition, before });
  expect(install.last("compile").agent).not.toBe(agent);
  expect(await farm.ended(agent)).toBe(1);
  // No server lets it in again.
  await farm.startAgain(agent);
  expect(await farm.ended(agent)).toBe(1);
});

test("in the end nothing waits or runs, and what is reported of each device is what it says", async () => {
  const open = (await listed("ps")).filter(({ state = "" }) => !isTerminal(JobState.parse(state)));
  // Whether a device still runs its build is asked a minute later.
  expect(open.filter(({ job }) => job !== "confirm")).toEqual([]);
  const devices = await listed("devices");
  expect(devices.map(({ configuration }) => configuration)).toEqual(["fan", "lamp"]);
  for (const device of [fan, lamp]) {
    const said = devices.find(({ configuration }) => configuration === device.name);
    expect(JSON.stringify(said)).toContain((await device.report())?.compilationTime);
  }
});

interface Line {
  readonly configuration?: string;
  readonly job?: string;
  readonly state?: string;
}

async function listed(command: string): Promise<readonly Line[]> {
  const { out } = await farm.cli([command, "--json"]).end();
  const lines = out.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Line);
}
