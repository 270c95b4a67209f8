/** A board with the usual reset circuit: its lines bring it into the loader and out of it again. */
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { RomLoader, type RomLoaderEvent } from "#simulator/rom-loader.ts";
import type { Esptool } from "#upload-agent/serial/esptool-environment.ts";
import { identifySerial, type SerialBench } from "#upload-agent/serial/flash-serial.ts";
import { factoryImage } from "#test/fixtures/serial/esp-image.ts";
import { flashAndListen, realEsptool, serialBench, serialTarget } from "#test/support/serial-bench.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fixtures = join(import.meta.dirname, "../fixtures/serial");
const env = plainEnvironment();

let folder: TemporaryFolder;
let variables: Readonly<Record<string, string>>;
let loader: RomLoader;
let bench: SerialBench;
let esptool: Esptool;
let onEvent: (event: RomLoaderEvent) => void = () => undefined;

async function done(argv: readonly string[]): Promise<void> {
  const { end, tail } = await runProcess({ argv, env, totalMs: 60_000 });
  if (end.kind !== "exited" || end.exitCode !== 0)
    throw new Error(`${argv.join(" ")}: ${JSON.stringify(end)} ${tail.join("\n")}`);
}

beforeAll(async () => {
  folder = await temporaryFolder();
  const library = join(folder.path, "pty-lines.so");
  const fifo = join(folder.path, "lines");
  await done(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, join(fixtures, "pty-lines.c"), "-ldl"]);
  await done(["mkfifo", fifo]);
  variables = { LD_PRELOAD: library, PTY_LINES: fifo };
  loader = await RomLoader.open({ chip: "esp32", linesFifo: fifo, onEvent: (event) => onEvent(event) });
  const real = await realEsptool();
  esptool = { ...real, variables: { ...real.variables, ...variables } };
  bench = serialBench({ folder: folder.path, ports: { bench: loader.path }, esptool });
});

afterAll(async () => {
  await loader[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

beforeEach(() => {
  loader.events.length = 0;
  onEvent = () => undefined;
});

const resets = () => loader.events.flatMap((event) => (event.kind === "reset" ? [event.into] : []));
const target = () => serialTarget("bench", { kind: "esptool", chip: "esp32" });

test("asking who is there resets the device into its loader, and its firmware runs again afterwards", async () => {
  const options = { signal: new AbortController().signal, mayStart: () => true, onEvent: () => undefined };
  expect((await identifySerial(target(), bench, options)).ok).toBe(true);
  expect(resets()).toEqual(["loader", "firmware"]);
});

test("after a flash the new firmware starts", async () => {
  const image = factoryImage("esp32", 60_000);
  expect((await flashAndListen(bench, target(), [{ role: "factory", name: "a.bin", bytes: image }])).result.ok).toBe(
    true,
  );
  expect(loader.flash(0, image.length).equals(image)).toBe(true);
  expect(resets()).toEqual(["loader", "firmware", "loader", "firmware"]);
  const finished = loader.events.findLastIndex(({ kind }) => kind === "write-finished");
  expect(loader.events.findLastIndex(({ kind }) => kind === "reset")).toBeGreaterThan(finished);
});

test("reading what a device prints does not reset it", async () => {
  const stop = new AbortController();
  const lines: string[] = [];
  const hasRead = Promise.withResolvers<void>();
  const reader = runProcess({
    argv: [process.execPath, join(fixtures, "log-reader.ts"), loader.path, folder.path],
    env: { ...env, ...variables },
    signal: stop.signal,
    totalMs: 30_000,
    onLine: (line) => {
      lines.push(line);
      if (line === "open") loader.say("[I][app:102] ESPHome started\r\n");
      if (lines.length === 2) hasRead.resolve();
    },
  });
  await hasRead.promise;
  stop.abort();
  await reader;
  expect(lines).toEqual(["open", "[I][app:102] ESPHome started", "end stopped"]);
  expect(resets()).toEqual([]);
});
