/** The queue's commands with everything real: rename, clean, reset and retry of one device. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { runningIn, runningInGroup } from "#test/support/process-table.ts";
import { type RealDevice, testCacheFolder } from "#test/support/real-device.ts";
import { type Cli, RealFarm } from "#test/support/real-farm.ts";

let farm: RealFarm;
let device: RealDevice;

beforeAll(async () => {
  farm = await RealFarm.start();
  device = await farm.device("lamp");
});
afterAll(() => farm[Symbol.asyncDispose]());

const builds = () => join(farm.home, "agents", "build-1", "build", "trees");

/** Configurations of which the build machine has a tree. */
async function trees(): Promise<readonly string[]> {
  const [version = ""] = await readdir(builds()).catch(() => []);
  const folders = await readdir(join(builds(), version)).catch(() => []);
  return folders.map((name) => name.split(".")[0] ?? "");
}
const configurations = async () => (await readdir(farm.configurations)).filter((name) => name.endsWith(".yaml"));

/** Until the build of a command line runs compilers. @returns the leader of its process group */
async function compilerRuns(cli: Cli): Promise<number> {
  await cli.event({ kind: "job", job: "compile", state: "running" });
  const found = await poll(systemClock, { everyMs: 10, withinMs: 60_000 }, async () => {
    const isCompiling = runningIn(join(farm.home, "agents")).some((process) => process.includes("cc1plus"));
    return isCompiling ? (await farm.groupsOf("build-1"))[0] : undefined;
  });
  if (found === undefined) throw new Error("no compiler runs");
  return found;
}

test("a bundle of an unchanged configuration has the same digest each time", async () => {
  await farm.write(device, { edition: 1 });
  const made = await new EsphomeEnvironments({ cacheFolder: testCacheFolder, clock: systemClock }).ensure("2026.10.0");
  if (!made.ok) throw new Error("no environment");
  const file = join(farm.configurations, "lamp.yaml");
  const bundles = [await makeBundle(made.env, file), await makeBundle(made.env, file)];
  const digests = bundles.map((bundle) => (bundle.ok ? bundle.digest : JSON.stringify(bundle)));
  expect(digests[0]).toBe(digests[1]);
});

test("an install that found no device is tried again from the upload on", async () => {
  const nobody = `127.0.0.1:${await freePort()}`;
  const install = farm.cli(["install", await farm.write(device, { edition: 1 }), "--device", nobody, "--json"]);
  expect(await install.end()).toMatchObject({ code: 1 });
  expect(install.last("compile")).toMatchObject({ state: "succeeded" });
  expect(install.last("upload").outcome).toMatchObject({ failure: { kind: "device-unreachable" } });
  expect(await device.runs()).toBe(0);
  const { code, out, err } = await farm.run("retry", "lamp", "--device", device.address);
  expect({ code, err }).toMatchObject({
    code: 0,
    err: expect.stringMatching(/only its upload is run again/) as string,
  });
  expect(out).not.toContain("compile");
  expect(await device.runs()).toBe(1);
  expect(device.flashes()).toHaveLength(1);
  const chain = install.last("compile").chain!;
  expect((await farm.run("logs", `${chain}.compile`)).out).toMatch(/\[\d+\/\d{2,}\]/);
  expect((await farm.run("logs", `${chain}.upload`)).out).not.toBe("");
});

test("a rename whose build fails leaves both files and the device as they were", async () => {
  const file = await farm.write(device, { edition: 2, code: "int answer = forty_two" });
  const before = await readFile(join(farm.configurations, file), "utf8");
  const { code, err } = await farm.run("rename", file, "desk", "--device", device.address);
  expect({ code, err }).toMatchObject({ code: 1, err: expect.stringMatching(/lamp.yaml was not renamed/) as string });
  expect(await configurations()).toEqual(["lamp.yaml"]);
  expect(await readFile(join(farm.configurations, file), "utf8")).toBe(before);
  expect((await device.report())?.name).toBe("lamp");
  expect(device.flashes()).toHaveLength(1);
});

test("a renamed device reports its new name, and its file has it", async () => {
  const file = await farm.write(device, { edition: 2 });
  const end = await farm.run("rename", file, "desk", "--device", device.address);
  expect(end).toMatchObject({ code: 0, out: expect.stringMatching(/lamp.yaml is desk.yaml now/) as string });
  expect(await device.runs()).toBe(2);
  expect((await device.report())?.name).toBe("desk");
  expect(await configurations()).toEqual(["desk.yaml"]);
  expect(await readFile(join(farm.configurations, "desk.yaml"), "utf8")).toBe(
    device.yaml({ edition: 2 }).replace("name: lamp", "name: desk"),
  );
  // The device's entry follows the chain's way into the history.
  const devices = await poll(systemClock, { everyMs: 50, withinMs: 20_000 }, async () => {
    const { out } = await farm.run("devices");
    return /^desk /m.test(out) ? out : undefined;
  });
  expect(devices).not.toMatch(/^lamp /m);
  expect(devices).toBeDefined();
});

test("a clean takes the tree, a reset the build that runs after it, and then an install works", async () => {
  expect(await trees()).toContain("desk");
  const clean = await farm.run("clean", "desk.yaml");
  expect(clean).toMatchObject({ code: 0, out: expect.stringMatching(/on build-1: took 1 build tree away/) as string });
  expect(await trees()).not.toContain("desk");

  await farm.writeText("desk.yaml", device.yaml({ edition: 3 }).replace("name: lamp", "name: desk"));
  const place = ["desk.yaml", "--device", device.address, "--json"];
  const interrupted = farm.cli(["install", ...place]);
  const leader = await compilerRuns(interrupted);
  const reset = await farm.run("reset", "--yes");
  // Nothing is awaited in between: what runs now has outlived the answer.
  const [group, folder] = [runningInGroup(leader), runningIn(builds())];
  expect({ group, folder }).toEqual({ group: [], folder: [] });
  expect(reset).toMatchObject({
    code: 0,
    out: expect.stringMatching(/every configuration +clean +succeeded/) as string,
  });
  expect(await trees()).toEqual([]);
  expect(await interrupted.end()).toMatchObject({ code: 4 });
  expect(interrupted.last("compile").outcome).toMatchObject({ kind: "cancelled", cause: "reset" });
  expect(await device.runs()).toBe(2);
  // It was a cold build: all of ESPHome, not only what had changed.
  const log = await farm.run("logs", interrupted.last("compile").chain!);
  expect(log.out).toMatch(/\[\d+\/\d{2,}\]/);

  const install = farm.cli(["install", ...place]);
  expect(await install.end()).toMatchObject({ code: 0 });
  expect(await device.runs()).toBe(3);
});
