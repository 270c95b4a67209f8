/** What a user can get wrong or lack, with everything real: each is said clearly, and nothing is left behind. */
import { mkdir, readdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { Objm } from "@nats-io/obj";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "#actor/loopback-port.ts";
import { objectStores } from "#protocol/names.ts";
import { runningIn } from "#test/support/process-table.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import { type CliEnd, RealFarm } from "#test/support/real-farm.ts";

let farm: RealFarm;
let lamp: RealDevice;
/** A folder without a program in it. */
let nowhere: string;

beforeAll(async () => {
  farm = await RealFarm.start();
  lamp = await farm.device("lamp");
  nowhere = join(farm.folder, "nowhere");
  await mkdir(nowhere);
});
afterAll(() => farm[Symbol.asyncDispose]());

/** Refused on the user's own machine: exit code 2, the reason, and nothing in the farm. */
async function expectRefused(before: CliEnd, end: CliEnd, words: readonly RegExp[]): Promise<void> {
  for (const word of words) expect(end.err).toMatch(word);
  expect(end.code).toBe(2);
  expect(end.err).not.toMatch(/bug in flashyard|\n {4}at /);
  expect((await jobs()).out).toBe(before.out);
}

function jobs(): Promise<CliEnd> {
  return farm.run("ps", "--all", "--json");
}

/** The device and its port have seen no flash since. */
async function expectUntouched(edition: number, flashes: number): Promise<void> {
  expect(await lamp.runs()).toBe(edition);
  expect(lamp.flashes()).toHaveLength(flashes);
  expect(runningIn(join(farm.home, "agents"))).toEqual([]);
}

test("a file that is not there is named", async () => {
  const before = await jobs();
  await expectRefused(before, await farm.run("install", "nothing.yaml"), [/nothing\.yaml: there is no such file/]);
});

test("a file that is no YAML is shown with ESPHome's own line", async () => {
  const before = await jobs();
  const file = await farm.writeText("broken.yaml", "esphome:\n  name: [\n");
  await expectRefused(before, await farm.run("install", file), [/broken\.yaml: ESPHome refused/, /\| .*line \d/]);
});

test("a release of ESPHome that does not exist is named with the nearest that do, and leaves no environment", async () => {
  const before = await jobs();
  const cache = join(farm.folder, "cache");
  const file = await farm.write(lamp, { edition: 1 });
  const args = ["install", file, "--esphome-version", "2099.1.0"];
  const end = await farm.cli(args, { FLASHYARD_CACHE: cache }).end();
  await expectRefused(before, end, [/ESPHome 2099\.1\.0 does not exist/, /nearest are 20\d\d\.\d+\.\d+/]);
  const left = await readdir(join(cache, "esphome", "2099.1.0"));
  expect(left.filter((name) => name.startsWith("env-") || name === "ready.json")).toEqual([]);
});

test("a machine without any Python is told which one to install", async () => {
  const before = await jobs();
  const file = await farm.write(lamp, { edition: 1 });
  const bare = { PATH: nowhere, HOME: nowhere, FLASHYARD_CACHE: join(farm.folder, "cache-without-python") };
  const words = [/Python >=3\.12 .*is missing/, /ESPHome 2026\.10\.0/];
  await expectRefused(before, await farm.cli(["install", file], bare).end(), words);
  const named = { ...bare, FLASHYARD_PYTHON: join(nowhere, "python3") };
  const end = await farm.cli(["install", file], named).end();
  await expectRefused(before, end, [...words, /nowhere\/python3/]);
});

test("a build machine without a C++ compiler says that g++ is missing, and nothing is flashed", async () => {
  await using bare = await RealFarm.open();
  await bare.startMembers({ variables: { PATH: await pathWithoutCompilers(join(bare.folder, "bin")) } });
  const install = bare.cli(["install", join(farm.configurations, await farm.write(lamp, { edition: 1 })), "--json"]);
  expect(await install.end()).toMatchObject({ code: 1 });
  expect(install.last("compile")).toMatchObject({
    state: "failed",
    outcome: { failure: { kind: "toolchain-missing" } },
    reason: expect.stringMatching(
      /^g\+\+ \(or clang\+\+\) is missing on the build machine: .*apt install g\+\+/,
    ) as string,
  });
  expect(install.last("upload")).toMatchObject({ state: "cancelled", outcome: { cause: "prerequisite-failed" } });
  await expectUntouched(0, 0);
});

/** A folder with everything that this machine's PATH has but C and C++ compilers. */
async function pathWithoutCompilers(folder: string): Promise<string> {
  await mkdir(folder);
  for (const place of (process.env["PATH"] ?? "").split(":").toReversed()) {
    for (const name of await readdir(place).catch(() => [])) {
      if (/(^|-)(g\+\+|gcc|cc|c\+\+|clang|clang\+\+)(-[\d.]+)?$/.test(name)) continue;
      await symlink(join(place, name), join(folder, name)).catch(() => undefined);
    }
  }
  return folder;
}

test("a device that nobody can reach is tried three times, and was not touched", async () => {
  const [ota, api] = [await freePort(), await freePort()];
  const yaml = lamp
    .yaml({ edition: 1 })
    .replace(String(lamp.otaPort), String(ota))
    .replace(String(lamp.apiPort), String(api));
  const install = farm.cli(["install", await farm.writeText("lamp.yaml", yaml), "--json"]);
  expect(await install.end()).toMatchObject({ code: 1 });
  expect(install.last("upload")).toMatchObject({
    state: "failed",
    attempt: 3,
    outcome: { failure: { kind: "device-unreachable" } },
    reason: expect.stringContaining(`no device answers at 127.0.0.1:${ota}`) as string,
  });
  await expectUntouched(0, 0);
  expect(lamp.sessions()).toEqual([]);
});

test("a wrong OTA password is said as such, and the device keeps its build", async () => {
  const guarded = await farm.install(lamp, { edition: 2, password: "swordfish" });
  expect(await guarded.end()).toMatchObject({ code: 0 });
  await expectUntouched(2, 1);
  const file = await farm.write(lamp, { edition: 3, password: "hunter2" });
  const { code, out, err } = await farm.run("install", file, "--device", lamp.address);
  expect(code).toBe(1);
  expect(out).toMatch(/upload +failed.*refused this uploader.*the device was not touched/);
  expect(out + err).not.toMatch(/hunter2|swordfish/);
  await expectUntouched(2, 1);
});

test("an artifact that is not what its digest says is not flashed, and is made anew by the next install", async () => {
  const file = await farm.write(lamp, { edition: 4, password: "swordfish" });
  const build = farm.cli(["build", file, "--json"]);
  expect(await build.end()).toMatchObject({ code: 0 });
  const digest = build.last("compile").outcome?.manifest?.images[0]?.digest ?? "";
  const connection = await farm.connect();
  try {
    const store = await new Objm(connection).open(objectStores.artifacts);
    expect((await store.info(digest))?.size).toBeGreaterThan(0);
    await store.putBlob({ name: digest }, Buffer.from("another program"));
  } finally {
    await connection.close();
  }
  const upload = farm.cli(["upload", file, "--device", lamp.address, "--json"]);
  expect(await upload.end()).toMatchObject({ code: 1 });
  expect(upload.last("upload")).toMatchObject({
    state: "failed",
    outcome: { failure: { kind: "artifact-mismatch" } },
    reason: expect.stringMatching(new RegExp(`manifest says ${digest}; nothing was flashed`)) as string,
  });
  await expectUntouched(2, 1);

  const install = await farm.install(lamp, { edition: 4, password: "swordfish" });
  expect(await install.end()).toMatchObject({ code: 0 });
  expect(lamp.flashes().at(-1)?.imageDigest).toBe(digest);
  await expectUntouched(4, 2);
});

test("a farm that is not there is said with what to do", async () => {
  const url = `nats://127.0.0.1:${await freePort()}`;
  const end = await farm.cli(["install", await farm.write(lamp, { edition: 5 })], { FLASHYARD_NATS_URL: url }).end();
  expect(end).toMatchObject({ code: 5, err: expect.stringContaining(`no farm answers at ${url}`) as string });
  expect(end.err).toContain("flashyard up");
});
