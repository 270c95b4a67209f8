/** The way of somebody without hardware: a farm, devices that exist only here, and an install of their configurations as they were written. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { runningWith } from "#test/support/process-table.ts";
import { type Cli, RealFarm } from "#test/support/real-farm.ts";

let farm: RealFarm;

beforeAll(async () => {
  farm = await RealFarm.start({ compile: 2 });
});
afterAll(() => farm[Symbol.asyncDispose]());

async function end(cli: Cli): Promise<void> {
  cli.child.kill("SIGINT");
  expect(await cli.end()).toMatchObject({ code: 0 });
}

/** Of devices, that run. */
const programs = () => runningWith([join(folder(), ".devices")]).filter((line) => line.includes("program"));

const folder = () => join(farm.configurations, "simulated");

test("simulated devices are installed from the files as they are, and again when one is changed", async () => {
  const devices = farm.cli(["device", "simulate", "--port", "31500"]);
  await devices.prints(/lamp-2 /);
  const files = ["simulated/lamp-1.yaml", "simulated/lamp-2.yaml"];
  const install = await farm.run("install", ...files);
  expect(install).toMatchObject({ code: 0, out: expect.stringMatching(/2 done|succeeded[^]*succeeded/) as string });
  await devices.prints(/lamp-1 {2}rebooted: runs ESPHome 2026\.10\.0, built/);
  await devices.prints(/lamp-2 {2}rebooted: runs ESPHome 2026\.10\.0, built/);
  const table = await farm.run("devices");
  expect(table.out).toMatch(/lamp-1 +127\.0\.0\.1:31500 +(running|confirmed) +2026\.10\.0 .* flash-1 /);

  const file = join(folder(), "lamp-1.yaml");
  await writeFile(file, (await readFile(file, "utf8")).replace("return 42", "return 43"));
  expect(await farm.run("install", "simulated/lamp-1.yaml")).toMatchObject({ code: 0 });
  await devices.prints(/(lamp-1 {2}flashed[^]*){2}/);
  await end(devices);
  expect((await readdir(folder())).toSorted()).toEqual(["lamp-1.yaml", "lamp-2.yaml"]);
});

test("with --host the devices are real programs, which end with the command", async () => {
  const devices = farm.cli(["device", "simulate", "--host", "--count", "1", "--name", "real", "--port", "31600"]);
  await devices.prints(/real {2}127\.0\.0\.1:31600, API at 31601/);
  expect(await farm.run("install", "simulated/real.yaml")).toMatchObject({ code: 0 });
  await devices.prints(/real {2}flashed: \d+\.\d kB, ESPHome 2026\.10\.0, built/);
  expect(programs()).not.toEqual([]);
  await end(devices);
  expect(programs()).toEqual([]);
  expect(await readdir(folder())).toContain("real.yaml");
  expect(await readdir(folder())).not.toContain(".devices");
});

test("the programs end also when the command is killed with -9", async () => {
  const devices = farm.cli(["device", "simulate", "--host", "--count", "1", "--name", "real", "--port", "31700"]);
  await devices.prints(/real {2}127\.0\.0\.1:31700, API at 31701/);
  expect(programs()).not.toEqual([]);
  devices.child.kill("SIGKILL");
  await devices.end();
  const limits = { everyMs: 20, withinMs: 10_000 };
  await poll(systemClock, limits, () => (programs().length === 0 ? true : undefined));
  expect(programs()).toEqual([]);
});
