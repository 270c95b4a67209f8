/** Real esptool (PyPI) at a simulated chip on a pseudo terminal: what a flash over a port promises. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import type { SerialTool } from "#protocol/serial.ts";
import { RomLoader, type RomLoaderOptions } from "#simulator/rom-loader.ts";
import type { Esptool } from "#upload-agent/serial/esptool-environment.ts";
import { identifySerial, type SerialBench } from "#upload-agent/serial/flash-serial.ts";
import { holderOf } from "#upload-agent/serial/port-owner.ts";
import { bootloaderAt, espImage, factoryImage, type ImageChip, noise } from "#test/fixtures/serial/esp-image.ts";
import { flashAndListen, realEsptool, serialBench, serialTarget } from "#test/support/serial-bench.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const macOfChips = "24:0A:C4:12:34:56";
const noSignal = new AbortController().signal;

let esptool: Esptool;
let folder: TemporaryFolder;
const loaders: RomLoader[] = [];

beforeAll(async () => {
  esptool = await realEsptool();
});

beforeEach(async () => {
  folder = await temporaryFolder();
});

afterEach(async () => {
  await Promise.all(loaders.splice(0).map((loader) => loader[Symbol.asyncDispose]()));
  await folder[Symbol.asyncDispose]();
});

async function chipAtPort(options: RomLoaderOptions): Promise<{ loader: RomLoader; bench: SerialBench }> {
  const loader = await RomLoader.open(options);
  loaders.push(loader);
  return { loader, bench: serialBench({ folder: folder.path, ports: { bench: loader.path }, esptool }) };
}

const tool = (chip: ImageChip): SerialTool => ({ kind: "esptool", chip });
const factory = (bytes: Buffer) => [{ role: "factory", name: "firmware.factory.bin", offset: 0, bytes }] as const;
const kindsOf = (loader: RomLoader) => loader.events.map(({ kind }) => kind);

test.each(["esp8266", "esp32", "esp32c3", "esp32s3"] as const)(
  "a %s takes its factory image, and its flash holds it byte for byte",
  async (chip) => {
    const { loader, bench } = await chipAtPort({ chip });
    const image = factoryImage(chip, 100_000);
    const { result, events } = await flashAndListen(
      bench,
      serialTarget("bench", tool(chip), { mac: macOfChips }),
      factory(image),
    );
    expect(result).toMatchObject({ ok: true, level: "committed", compression: "deflate" });
    expect(loader.flash(0, image.length).equals(image)).toBe(true);
    expect(events).toContainEqual({ kind: "identified", identity: expect.objectContaining({ chip, mac: macOfChips }) });
    const phases = events.flatMap((event) => (event.kind === "phase" ? [event.phase] : []));
    expect(phases).toEqual(["identifying", "connecting", "preparing", "sending", "committing"]);
    const progress = events.filter((event) => event.kind === "progress");
    const sent = progress.map(({ sentBytes }) => sentBytes);
    expect(sent.toSorted((a, b) => a - b)).toEqual(sent);
    expect(progress.at(-1)).toEqual({ kind: "progress", sentBytes: image.length, totalBytes: image.length });
  },
);

test("a bootloader that says another flash size is written with the right one, and its hash is valid", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32c3" });
  // 1 MB; the chip has 4.
  const image = factoryImage("esp32c3", 50_000, "small", 0x00);
  expect((await flashAndListen(bench, serialTarget("bench", tool("esp32c3")), factory(image))).result.ok).toBe(true);
  const written = loader.flash(bootloaderAt("esp32c3"), 0x8000);
  expect(written[3]).toBe(0x20);
  const file = join(folder.path, "written.bin");
  await writeFile(file, written);
  const lines: string[] = [];
  const argv = [...esptool.argv, "--chip", "esp32c3", "image-info", file];
  await runProcess({
    argv,
    env: plainEnvironment({ NO_COLOR: "1" }),
    onLine: (line) => lines.push(line),
    totalMs: 30_000,
  });
  expect(lines.join("\n")).toMatch(/Flash size: 4MB/);
  expect(lines.join("\n")).toMatch(/Validation hash: [0-9a-f]{64} \(valid\)/);
});

test("what esptool itself merges is a factory image", async () => {
  const parts = {
    "0x1000": espImage("esp32", noise(2_000, "boot")),
    "0x10000": espImage("esp32", noise(30_000, "app")),
  };
  const files = await Promise.all(
    Object.entries(parts).map(async ([offset, bytes]) => {
      const file = join(folder.path, `${offset}.bin`);
      await writeFile(file, bytes);
      return [offset, file];
    }),
  );
  const merged = join(folder.path, "merged.bin");
  // As ESPHome does it (espidf/toolchain.py).
  const merge = ["--chip", "esp32", "merge-bin", "--flash-size", "4MB", "--output", merged, ...files.flat()];
  await runProcess({ argv: [...esptool.argv, ...merge], env: plainEnvironment(), totalMs: 30_000 });
  const image = await readFile(merged);
  const { loader, bench } = await chipAtPort({ chip: "esp32" });
  const { result } = await flashAndListen(bench, serialTarget("bench", tool("esp32")), factory(image));
  expect(result.ok).toBe(true);
  expect(loader.flash(0, image.length).equals(image)).toBe(true);
});

test("the parts of a build are written to their places in one go", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32" });
  const bootloader = espImage("esp32", noise(2_000, "bootloader"));
  const app = espImage("esp32", noise(60_000, "app"));
  const { result, events } = await flashAndListen(bench, serialTarget("bench", tool("esp32")), [
    { role: "factory", name: "bootloader.bin", offset: 0x1000, bytes: bootloader },
    { role: "factory", name: "firmware.bin", offset: 0x1_0000, bytes: app },
    { role: "ota", name: "firmware.ota.bin", bytes: app },
  ]);
  expect(result.ok).toBe(true);
  expect(loader.flash(0x1000, bootloader.length).equals(bootloader)).toBe(true);
  expect(loader.flash(0x1_0000, app.length).equals(app)).toBe(true);
  const totalBytes = bootloader.length + app.length;
  expect(events.findLast(({ kind }) => kind === "progress")).toEqual({
    kind: "progress",
    sentBytes: totalBytes,
    totalBytes,
  });
});

test("who is at the port can be asked without a write", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32s3" });
  const options = { signal: noSignal, mayStart: () => true, onEvent: () => undefined };
  const identified = await identifySerial(serialTarget("bench", tool("esp32s3")), bench, options);
  expect(identified).toEqual({
    ok: true,
    identity: { chip: "esp32s3", mac: macOfChips, description: "ESP32-S3 (QFN56) (revision v0.0)" },
  });
  expect(kindsOf(loader)).not.toContain("write-begun");
});

test("another chip is never written to", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32s3" });
  const { result } = await flashAndListen(
    bench,
    serialTarget("bench", tool("esp32c3")),
    factory(factoryImage("esp32c3", 9_000)),
  );
  expect(result).toEqual({
    ok: false,
    failure: { kind: "chip-mismatch", port: "bench", wanted: "esp32c3", found: "ESP32-S3" },
  });
  expect(kindsOf(loader)).not.toContain("write-begun");
});

test("the right kind of chip with another address is never written to", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32" });
  const target = serialTarget("bench", tool("esp32"), { mac: "24:0A:C4:FF:FF:FF" });
  const { result } = await flashAndListen(bench, target, factory(factoryImage("esp32", 9_000)));
  expect(result).toMatchObject({ ok: false, failure: { kind: "wrong-device", found: macOfChips } });
  expect(kindsOf(loader)).not.toContain("write-begun");
});

test("an image for another chip is refused before esptool is started", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32s3" });
  const { result } = await flashAndListen(
    bench,
    serialTarget("bench", tool("esp32s3")),
    factory(factoryImage("esp32c3", 9_000)),
  );
  expect(result).toMatchObject({ ok: false, failure: { kind: "chip-mismatch", wanted: "esp32s3" } });
  expect(loader.events).toEqual([]);
});

test("a chip that never answers is found out within seconds, and nothing was written", async () => {
  const { bench } = await chipAtPort({ chip: "esp32", neverSyncs: true });
  const { result } = await flashAndListen(
    bench,
    serialTarget("bench", tool("esp32")),
    factory(factoryImage("esp32", 9_000)),
  );
  expect(result).toMatchObject({ ok: false, failure: { kind: "device-unreachable", address: "bench" } });
}, 30_000);

test("a byte that went wrong is noticed, at both rates, and the device holds a partial image", async () => {
  const { bench } = await chipAtPort({ chip: "esp32", corruptAt: 0x1_2000 });
  const { result } = await flashAndListen(
    bench,
    serialTarget("bench", tool("esp32")),
    factory(factoryImage("esp32", 60_000)),
  );
  expect(result).toMatchObject({
    ok: false,
    failure: { kind: "flasher-failed", tool: "esptool", exitCode: 2, phase: "committing", effect: "partial" },
  });
});

test("a device that dies in the middle holds a partial image", async () => {
  const { bench } = await chipAtPort({ chip: "esp32c3", diesAtBlock: 4 });
  const { result } = await flashAndListen(
    bench,
    serialTarget("bench", tool("esp32c3")),
    factory(factoryImage("esp32c3", 200_000)),
  );
  expect(result).toMatchObject({ ok: false, failure: { kind: "flasher-failed", effect: "partial" } });
}, 60_000);

test("a line that does not carry the fast rate is used with the slow one", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32", noisyAboveBaud: 115_200 });
  const image = factoryImage("esp32", 60_000);
  const { result } = await flashAndListen(bench, serialTarget("bench", tool("esp32")), factory(image));
  expect(result.ok).toBe(true);
  expect(loader.flash(0, image.length).equals(image)).toBe(true);
  expect(loader.events.filter(({ kind }) => kind === "baud")).toEqual([{ kind: "baud", baud: 460_800 }]);
}, 60_000);

test("a line that breaks down in the middle is tried once more with the slow rate", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32", noisyAboveBaud: 115_200, noisyAfterBlocks: 2 });
  const image = factoryImage("esp32", 200_000);
  const { result } = await flashAndListen(bench, serialTarget("bench", tool("esp32")), factory(image));
  expect(result.ok).toBe(true);
  expect(loader.flash(0, image.length).equals(image)).toBe(true);
}, 60_000);

test("a cancel before the write leaves the device alone", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32" });
  const cancel = new AbortController();
  const { result } = await flashAndListen(
    bench,
    serialTarget("bench", tool("esp32")),
    factory(factoryImage("esp32", 60_000)),
    {
      signal: cancel.signal,
      onEvent: (event) => (event.kind === "identified" ? cancel.abort() : undefined),
    },
  );
  expect(result).toMatchObject({ ok: false, failure: { kind: "flasher-failed", effect: "none" } });
  expect(kindsOf(loader)).not.toContain("write-begun");
});

test("a flash whose right has run out is not begun", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32" });
  const target = serialTarget("bench", tool("esp32"));
  const { result } = await flashAndListen(bench, target, factory(factoryImage("esp32", 60_000)), {
    mayStart: () => false,
  });
  expect(result).toMatchObject({ ok: false, failure: { kind: "flasher-failed", effect: "none" } });
  expect(kindsOf(loader)).not.toContain("write-begun");
});

test("a cancel in the middle leaves a partial image, and the next flash repairs it", async () => {
  const cancel = new AbortController();
  const { loader, bench } = await chipAtPort({ chip: "esp32", bytesPerSecond: 100_000 });
  const image = factoryImage("esp32", 300_000);
  const target = serialTarget("bench", tool("esp32"));
  const { result } = await flashAndListen(bench, target, factory(image), {
    signal: cancel.signal,
    onEvent: (event) => (event.kind === "progress" && event.sentBytes > 0 ? cancel.abort() : undefined),
  });
  expect(result).toMatchObject({ ok: false, failure: { kind: "flasher-failed", phase: "sending", effect: "partial" } });
  expect(loader.flash(0, image.length).equals(image)).toBe(false);
  expect((await flashAndListen(bench, target, factory(image))).result.ok).toBe(true);
  expect(loader.flash(0, image.length).equals(image)).toBe(true);
});

test("a flash that takes longer than it may is ended", async () => {
  const { bench } = await chipAtPort({ chip: "esp32", bytesPerSecond: 20_000 });
  const target = serialTarget("bench", tool("esp32"));
  const limit = { totalMs: 6_000 };
  const { result } = await flashAndListen(bench, target, factory(factoryImage("esp32", 300_000)), { limit });
  expect(result).toMatchObject({
    ok: false,
    failure: { kind: "deadline", stage: "flashing", limit: "total", effect: "partial" },
  });
});

test("three flashes of one port at once run one after another", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32", bytesPerSecond: 400_000 });
  const target = serialTarget("bench", tool("esp32"));
  const images = ["one", "two", "three"].map((seed) => factoryImage("esp32", 60_000, seed));
  const told = await Promise.all(images.map((image) => flashAndListen(bench, target, factory(image))));
  expect(told.map(({ result }) => result.ok)).toEqual([true, true, true]);
  const writes = kindsOf(loader).filter((kind) => kind === "write-begun" || kind === "write-finished");
  expect(writes).toEqual(Array.from({ length: 3 }, () => ["write-begun", "write-finished"]).flat());
  expect(images.some((image) => loader.flash(0, image.length).equals(image))).toBe(true);
});

test("a port that another program has locked is left to it", async () => {
  const { loader, bench } = await chipAtPort({ chip: "esp32" });
  const script = [
    "import fcntl, os, sys, time",
    "fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), fcntl.LOCK_EX)",
    "print('locked', flush=True)",
    "time.sleep(60)",
  ].join("\n");
  const release = new AbortController();
  const locked = Promise.withResolvers<void>();
  const other = runProcess({
    argv: ["python3", "-c", script, loader.path],
    env: plainEnvironment(),
    signal: release.signal,
    onLine: () => locked.resolve(),
  });
  await locked.promise;
  const { result } = await flashAndListen(
    bench,
    serialTarget("bench", tool("esp32")),
    factory(factoryImage("esp32", 9_000)),
  );
  release.abort();
  await other;
  expect(result).toMatchObject({ ok: false, failure: { kind: "port-busy", port: "bench" } });
  expect(result).toMatchObject({
    failure: { detail: expect.stringMatching(/^python3\S* \(process \d+\) has locked it$/) },
  });
  expect(loader.events).toEqual([]);
});

test("an agent that is killed in the middle takes esptool with it, and the next one flashes the port", async () => {
  const isWriting = Promise.withResolvers<void>();
  const { loader, bench } = await chipAtPort({
    chip: "esp32",
    bytesPerSecond: 50_000,
    onEvent: (event) => (event.kind === "block" ? isWriting.resolve() : undefined),
  });
  const image = factoryImage("esp32", 400_000);
  const file = join(folder.path, "image.bin");
  await writeFile(file, image);
  const script = join(import.meta.dirname, "../fixtures/serial/doomed-flash.ts");
  const agent = spawn(process.execPath, [script, loader.path, folder.path, file], {
    stdio: "ignore",
    env: plainEnvironment(),
  });
  await isWriting.promise;
  expect(await holderOf(loader.path)).toBeDefined();
  agent.kill("SIGKILL");
  await once(agent, "exit");
  const isFree = async () => ((await holderOf(loader.path)) === undefined ? true : undefined);
  expect(await poll(systemClock, { everyMs: 20, withinMs: 10_000 }, isFree)).toBe(true);
  const small = factoryImage("esp32", 20_000, "next");
  expect((await flashAndListen(bench, serialTarget("bench", tool("esp32")), factory(small))).result.ok).toBe(true);
  expect(loader.flash(0, small.length).equals(small)).toBe(true);
});
