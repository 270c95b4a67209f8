/** `flashyard device simulate` as a process: files, events and the end. None of it needs a farm but `--host`. */
import { readdir, readFile, readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { plainEnvironment } from "#actor/subprocess.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { imageOf } from "#simulator/device-image.ts";
import { macOf } from "#simulator/simulated-configuration.ts";
import { askDevice } from "#upload-agent/native-api.ts";
import { jsonLines, RunningCli } from "#test/support/cli-farm.ts";
import { buildAt, flash, otaKey } from "#test/support/simulated-flash.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
let folder: string;
const running: RunningCli[] = [];

beforeEach(async () => {
  home = await temporaryFolder();
  folder = join(home.path, "simulated");
});
afterEach(async () => {
  for (const cli of running.splice(0)) if (cli.child.exitCode === null) cli.child.kill("SIGKILL");
  await home[Symbol.asyncDispose]();
});

function simulate(port: number, ...more: readonly string[]): RunningCli {
  const args = ["device", "simulate", "--folder", folder, "--port", String(port), ...more];
  const cli = new RunningCli(args, plainEnvironment());
  running.push(cli);
  return cli;
}

async function end(cli: RunningCli): Promise<number | null> {
  cli.child.kill("SIGINT");
  return cli.code();
}

const targetAt = (port: number, name: string, over: Partial<OtaTarget> = {}): OtaTarget => ({
  kind: "ota",
  host: "127.0.0.1",
  port,
  encrypted: false,
  name,
  api: { port: port + 1 },
  ...over,
});

const never = new AbortController().signal;

test("two devices stand at their ports, say what happens to them, and leave only their configurations", async () => {
  const cli = simulate(31_300);
  await cli.says(/next, in another terminal: flashyard install .*simulated\/\*\.yaml; Ctrl-C ends the devices here/);
  expect(cli.out).toMatch(
    /^lamp-1 {2}127\.0\.0\.1:31300, API at 31301; .*lamp-1\.yaml\nlamp-2 {2}127\.0\.0\.1:31302, API at 31303; /,
  );
  const target = targetAt(31_302, "lamp-2");
  expect(await askDevice(target, { signal: never, timeoutMs: 5_000 })).toMatchObject({
    kind: "answered",
    report: { name: "lamp-2", mac: macOf("lamp-2"), esphomeVersion: "2026.1.0" },
  });
  expect((await flash(target, { image: imageOf(buildAt(7, "lamp-2")) })).result).toMatchObject({ ok: true });
  await cli.prints(
    /lamp-2 {2}flashed: 100\.0 kB, ESPHome 2026\.10\.0, built 2026-10-01 12:07:00 \+0000\nlamp-2 {2}rebooted: runs ESPHome/,
  );
  expect(await end(cli)).toBe(0);
  expect((await readdir(folder)).toSorted()).toEqual(["lamp-1.yaml", "lamp-2.yaml"]);
  expect(await askDevice(target, { signal: never, timeoutMs: 1_000 })).not.toMatchObject({ kind: "answered" });
});

test("password, protocol, key and sleep stand in the configuration, and the device wants them", async () => {
  const options = ["--count", "1", "--name", "safe", "--password", "a: b", "--protocol", "1", "--encryption", otaKey];
  const cli = simulate(31_320, ...options, "--sleep", "600/600", "--json");
  await cli.prints(/"kind":"started"/);
  expect(jsonLines(cli.out)[0]).toEqual({
    kind: "started",
    name: "safe",
    file: join(folder, "safe.yaml"),
    otaPort: 31_320,
    apiPort: 31_321,
  });
  const text = await readFile(join(folder, "safe.yaml"), "utf8");
  for (const part of ["when-online: true", 'password: "a: b"', "version: 1", `key: "${otaKey}"`, "    encryption:\n"])
    expect(text).toContain(part);
  const encrypted = { encrypted: true, encryption: "require", encryptionKey: otaKey } as const;
  const target = targetAt(31_320, "safe", { ...encrypted, api: { port: 31_321, encryptionKey: otaKey } });
  const image = imageOf(buildAt(7, "safe"));
  expect((await flash(targetAt(31_320, "safe"), { image })).result).toMatchObject({ ok: false });
  expect((await flash(target, { image })).result).toMatchObject({ ok: true });
  await cli.prints(/"kind":"rebooted","build":{"name":"safe",/);
  expect(await end(cli)).toBe(0);
});

test("one device has the address that is asked for", async () => {
  const cli = simulate(31_330, "--count", "1", "--mac", "02:00:00:00:00:aa");
  await cli.says(/next/);
  const answer = await askDevice(targetAt(31_330, "lamp"), { signal: never, timeoutMs: 5_000 });
  expect(answer).toMatchObject({ report: { mac: "02:00:00:00:00:AA" } });
  expect(await end(cli)).toBe(0);
});

test("a fault is played at every update", async () => {
  const cli = simulate(31_340, "--count", "1", "--fault", "cut-off");
  await cli.says(/next/);
  const { result } = await flash(targetAt(31_340, "lamp"), { image: imageOf(buildAt(7)) });
  expect(result).toMatchObject({ ok: false, failure: { kind: "upload-interrupted" } });
  await cli.prints(/lamp {2}an update broke off after \d+\.\d kB of 100\.0 kB\n/);
  expect(await end(cli)).toBe(0);
});

test("a configuration that was changed stays, unless its device is another one now; a stranger's is refused", async () => {
  const file = join(folder, "lamp.yaml");
  const started = async (...more: readonly string[]) => {
    const cli = simulate(31_360, "--count", "1", ...more);
    await cli.says(/next/);
    return end(cli);
  };
  await started();
  await writeFile(file, (await readFile(file, "utf8")).replace("return 42", "return 43"));
  await started();
  expect(await readFile(file, "utf8")).toContain("return 43");
  await started("--password", "p");
  expect(await readFile(file, "utf8")).toMatch(/password: "p"[^]*return 42/);
  await writeFile(file, "esphome:\n  name: lamp\n");
  const cli = simulate(31_360, "--count", "1");
  expect(await cli.code()).toBe(2);
  expect(cli.err).toMatch(/lamp\.yaml is no file of a simulated device/);
  expect(await readdir(folder)).toEqual(["lamp.yaml"]);
});

test("a chip stands at a port whose name stays, for an agent that is told of it", async () => {
  const cli = simulate(31_380, "--count", "1", "--serial", "esp32", "--name", "bench");
  await cli.says(/next, in another terminal: `flashyard up` with that variable/);
  const link = join(folder, ".devices/ports/bench");
  expect(cli.out).toContain(`export FLASHYARD_PORTS=bench=${link}\n`);
  expect(await readlink(link)).toMatch(/^\/dev\/pts\/\d+$/);
  expect(await readFile(join(folder, "bench.yaml"), "utf8")).toMatch(/ {2}port: bench\n[^]* {2}variant: esp32\n/);
  expect(await end(cli)).toBe(0);
});

test("what does not go together is refused before anything is written", async () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [["--host", "--fault", "dies"], /--host does not go with --fault/],
    [["--serial", "esp32", "--password", "p"], /--serial does not go with --password/],
    [["--name", "Big Lamp"], /a device is named with a-z, 0-9 and -/],
    [["--encryption", "short"], /a key of 32 bytes in base64/],
    [["--sleep", "now"], /a number of seconds awake and one asleep/],
    [["--protocol", "3"], /a number from 1 to 2/],
    [["--mac", "02:00"], /written as 02:00:00:AB:CD:EF/],
    [["--mac", "02:00:00:00:00:01", "--count", "2"], /--mac is the address of one device/],
    [["--host", "--count", "1", "--mac", "02:00:00:00:00:01"], /--host does not go with --mac/],
  ];
  const clis = cases.map(([args]) => simulate(31_390, ...args));
  expect(await Promise.all(clis.map((cli) => cli.code()))).toEqual(cases.map(() => 2));
  for (const [index, [, words]] of cases.entries()) expect(clis[index]?.err).toMatch(words);
  expect(await readdir(home.path)).toEqual([]);
});

test("a port that is taken is named, and no configuration is left that would install on who has it", async () => {
  const first = simulate(31_395, "--count", "1");
  await first.says(/next/);
  const second = simulate(31_395, "--count", "1", "--name", "fan");
  expect([await second.code(), second.err]).toEqual([2, expect.stringMatching(/port 31395 or 31396 .*--port/)]);
  expect(await readdir(folder)).not.toContain("fan.yaml");
  expect(await end(first)).toBe(0);
});
