/** The main job with everything real: two build machines, devices of ESPHome's own firmware, the command line. */
import { spawnSync } from "node:child_process";
import { chmod, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { digestOf } from "#actor/digest.ts";
import { bundleOf } from "#test/support/tar-bytes.ts";
import { objectStores } from "#protocol/names.ts";
import { chainIdFrom, Configuration } from "#protocol/ids.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { watchPresence } from "#bus/presence.ts";
import { isRunning, residentBytes } from "#test/support/process-table.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import { RealFarm } from "#test/support/real-farm.ts";

const root = join(import.meta.dirname, "../..");
/** An agent that has nothing to do states that once a second. */
const idleStatements = 3;
/** 84.4 MB measured: signed in, with ports, devices and the coming image looked after. */
const idleBytesMax = 88e6;

let farm: RealFarm;
let lamp: RealDevice;
let fan: RealDevice;

beforeAll(async () => {
  farm = await RealFarm.start({ compile: 2 });
  lamp = await farm.device("lamp");
  fan = await farm.device("fan");
});
afterAll(() => farm[Symbol.asyncDispose]());

/** The device's own word, the program that it runs, and what went over the wire are one and the same. */
async function expectFlashed(device: RealDevice, edition: number, flashes: number): Promise<void> {
  expect(await device.runs()).toBe(edition);
  expect(device.flashes()).toHaveLength(flashes);
  expect(device.flashes().at(-1)).toMatchObject({ committed: true, imageDigest: await device.flashDigest() });
}

/** Waits for the next statements of an agent. */
async function untilHeard(agent: string, count: number): Promise<void> {
  const connection = await farm.connect();
  const enough = new AbortController();
  let left = count;
  const deadline = AbortSignal.timeout(30_000);
  await watchPresence(connection, AbortSignal.any([enough.signal, deadline]), (statement) => {
    if (statement.agent === agent && --left === 0) enough.abort();
  });
  await connection.close();
  expect(left).toBe(0);
}

test("an upload agent with nothing to do takes less than 88 MB of memory", async () => {
  const pid = farm.pidOf("flash-1");
  await untilHeard("flash-1", idleStatements);
  const bytes = residentBytes(pid);
  process.stdout.write(`idle upload agent: ${(bytes / 1e6).toFixed(1)} MB resident\n`);
  expect(bytes).toBeGreaterThan(0);
  expect(bytes).toBeLessThan(idleBytesMax);
  expect(farm.pidOf("flash-1")).toBe(pid);
});

test("two configurations are built by two agents at once and flashed, and each device itself reports the new build", async () => {
  expect([await lamp.runs(), await fan.runs()]).toEqual([0, 0]);
  const clis = [await farm.install(lamp, { edition: 1 }), await farm.install(fan, { edition: 1 })];
  const ends = await Promise.all(clis.map((cli) => cli.end()));
  expect(ends).toMatchObject([{ code: 0 }, { code: 0 }]);
  const builds = clis.map((cli) => cli.last("compile"));
  expect(new Set(builds.map(({ agent }) => agent))).toEqual(new Set(["build-1", "build-2"]));
  expect(Math.max(...builds.map((build) => build.startedAt!))).toBeLessThan(
    Math.min(...builds.map((build) => build.endedAt!)),
  );
  for (const [index, device] of [lamp, fan].entries()) {
    await expectFlashed(device, 1, 1);
    const events = clis[index]!.events();
    expect(events.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["accepted", "job", "progress"]));
    expect(events.at(-1)).toMatchObject({ kind: "summary", exitCode: 0 });
    const { outcome } = clis[index]!.last("upload");
    expect(outcome).toMatchObject({ kind: "flashed", level: "running", wrote: true });
    expect((await device.report())?.compilationTime).toBe(outcome?.report?.compilationTime);
  }
});

test("an unchanged configuration that is installed again is not flashed, a changed one is", async () => {
  const unchanged = await farm.install(lamp, { edition: 1 });
  expect(await unchanged.end()).toMatchObject({ code: 0 });
  expect(unchanged.last("upload").outcome).toMatchObject({ kind: "flashed", wrote: false });
  await expectFlashed(lamp, 1, 1);
  const changed = await farm.install(lamp, { edition: 2 });
  expect(await changed.end()).toMatchObject({ code: 0 });
  await expectFlashed(lamp, 2, 2);
  await expectFlashed(fan, 1, 1);
});

test("code that does not compile ends with the compiler's own lines, exit code 1, and no upload", async () => {
  const file = await farm.write(lamp, { edition: 3, code: "int answer = forty_two" });
  const { code, out } = await farm.run("install", file, "--device", lamp.address);
  expect(code).toBe(1);
  expect(out).toMatch(/error: .forty_two. was not declared in this scope/);
  expect(out).toMatch(/compile +failed .*the build failed \(exit code 1\)/);
  expect(out).toMatch(/upload +cancelled.*its build failed, nothing was flashed/);
  const json = await farm.install(lamp, { edition: 3, code: "int answer = forty_two" });
  expect(await json.end()).toMatchObject({ code: 1 });
  expect(json.last("compile")).toMatchObject({ state: "failed", outcome: { failure: { kind: "compiler-exit" } } });
  expect(json.last("upload")).toMatchObject({
    state: "cancelled",
    outcome: { kind: "cancelled", cause: "prerequisite-failed" },
  });
  expect(json.last("upload").startedAt).toBeUndefined();
  await expectFlashed(lamp, 2, 2);
});

test("a configuration that only the build machine finds invalid ends as config-invalid, and its upload is cancelled", async () => {
  const bundle = bundleOf([{ path: "lamp.yaml", content: "esphome:\n  name: lamp\nhost:\nnonsense: 1\n" }]);
  const connection = await farm.connect();
  const id = chainIdFrom(Date.now(), Buffer.from("invalid"));
  try {
    await new ObjectStore(connection, objectStores.bundles).put(digestOf(bundle), bundle);
    const target = { kind: "ota", host: "127.0.0.1", port: lamp.proxyPort, encrypted: false, name: "lamp" } as const;
    const answer = await askAdmin(connection, {
      v: 1,
      kind: "submit",
      chains: [
        {
          id,
          kind: "install",
          configuration: Configuration.parse("lamp"),
          build: { driver: "esphome", version: "2026.10.0", bundle: digestOf(bundle), entry: "lamp.yaml" },
          upload: { target },
        },
      ],
    });
    expect(answer).toMatchObject({ kind: "accepted" });
  } finally {
    await connection.close();
  }
  const { code, out, err } = await farm.run("logs", id, "--follow");
  expect(out + err).toMatch(/\[nonsense\]|nonsense/);
  expect(err).toMatch(/ESPHome refused the configuration \(exit code 2\)/);
  expect(err).toMatch(/its build failed, nothing was flashed/);
  expect(code).toBe(1);
  await expectFlashed(lamp, 2, 2);
});

test("a configuration that is no YAML or is invalid is refused before anything is sent, with ESPHome's own lines", async () => {
  const before = (await farm.run("ps", "--all", "--json")).out;
  await farm.writeText("broken.yaml", "esphome:\n  name: x\n host: [\n");
  await farm.writeText("invalid.yaml", lamp.yaml({ edition: 4 }).replace("reboot_timeout", "reboot_timeuot"));
  const broken = await farm.run("install", "broken.yaml");
  expect(broken).toMatchObject({
    code: 2,
    err: expect.stringContaining("ESPHome refused the configuration") as string,
  });
  expect(broken.err).toMatch(/\| .*in "broken.yaml", line 3/);
  const invalid = await farm.run("install", "invalid.yaml");
  expect(invalid.code).toBe(2);
  expect(invalid.err).toMatch(/\| .*\[reboot_timeuot\] is an invalid option/);
  const cli = farm.cli(["install", "invalid.yaml", "broken.yaml", "--json"]);
  expect(await cli.end()).toMatchObject({ code: 2 });
  expect(cli.events().map(({ kind }) => kind)).toEqual(["refused", "refused", "summary"]);
  expect((await farm.run("ps", "--all", "--json")).out).toBe(before);
});

test("a folder is built with make and a C compiler, and its program comes back and runs", async () => {
  const source = join(root, "examples/command-c");
  const before = await readdir(source);
  const output = join(farm.folder, "blink");
  const build = ["build", source, "--artifact", "build/*.elf", "--output", output, "--", "make"];
  expect(await farm.run(...build)).toMatchObject({ code: 0 });
  expect((await readdir(output)).toSorted()).toEqual(["blink.elf", "manifest.json"]);
  await chmod(join(output, "blink.elf"), 0o755);
  const { status, stdout } = spawnSync(join(output, "blink.elf"), { encoding: "utf8" });
  expect({ status, stdout }).toMatchObject({ status: 0, stdout: expect.stringMatching(/^on\noff\n/) as string });
  expect(await readdir(source)).toEqual(before);
});

test("the version is told", async () => {
  const begunAt = performance.now();
  const { code, out } = await farm.run("version");
  process.stdout.write(`flashyard version: ${(performance.now() - begunAt).toFixed(0)} ms\n`);
  expect(code).toBe(0);
  expect(out).toMatch(/^flashyard \d+\.\d+\.\d+, Node.js v24\./);
});

test("no member of the farm died on the way", () => {
  for (const member of ["nats-server", "coordinator", "build-1", "build-2", "flash-1"]) {
    expect(isRunning(farm.pidOf(member)), member).toBe(true);
  }
});
