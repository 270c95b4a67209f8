/** Real avrdude at the genuine Arduino bootloader, which runs in simavr. Nothing of this chain is ours but the agent. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { SerialTool } from "#protocol/serial.ts";
import { identifySerial, type SerialBench } from "#upload-agent/serial/flash-serial.ts";
import { flashAndListen, serialBench, serialTarget } from "#test/support/serial-bench.ts";
import { buildSimduino, buildSketch, Simduino } from "#test/support/simduino.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const uno: SerialTool = { kind: "avrdude", part: "m328p", programmer: "arduino", baud: 57_600 };

let folder: TemporaryFolder;
let program: string;
let sketch: Buffer;
let board: Simduino;
let bench: SerialBench;
let round = 0;

beforeAll(async () => {
  folder = await temporaryFolder();
  program = await buildSimduino(folder.path);
  sketch = await readFile(await buildSketch(folder.path));
});

afterAll(() => folder[Symbol.asyncDispose]());

beforeEach(async () => {
  // The board keeps its flash in a file of its folder.
  const own = join(folder.path, `board-${round++}`);
  await mkdir(own);
  board = await Simduino.start(program, own);
  bench = serialBench({ folder: own, ports: { uno: board.path } });
});

afterEach(() => board[Symbol.asyncDispose]());

const images = (bytes: Buffer) => [{ role: "other", name: "blink.hex", bytes }] as const;

test("an Arduino takes its program, and avrdude reads back every byte of it", async () => {
  const { result, events } = await flashAndListen(bench, serialTarget("uno", uno), images(sketch));
  expect(result).toMatchObject({ ok: true, level: "committed", compression: "none" });
  expect(result.ok && result.wireBytes).toBeGreaterThan(100);
  expect(events.flatMap((event) => (event.kind === "phase" ? [event.phase] : []))).toEqual(
    expect.arrayContaining(["connecting", "sending", "committing"]),
  );
  expect(events.findLast((event) => event.kind === "progress")).toEqual({
    kind: "progress",
    sentBytes: sketch.length,
    totalBytes: sketch.length,
  });
});

test("who is there can be asked without a write", async () => {
  const options = { signal: new AbortController().signal, mayStart: () => true, onEvent: () => undefined };
  expect(await identifySerial(serialTarget("uno", uno), bench, options)).toEqual({
    ok: true,
    identity: { chip: "m328p" },
  });
});

test("another part is never written to", async () => {
  const { result } = await flashAndListen(bench, serialTarget("uno", { ...uno, part: "m168p" }), images(sketch));
  expect(result).toEqual({
    ok: false,
    failure: { kind: "chip-mismatch", port: "uno", wanted: "m168p", found: expect.stringMatching(/m328p|1e ?95 ?0f/i) },
  });
});

test("a file that is damaged is refused before avrdude is started", async () => {
  const damaged = Buffer.from(sketch.toString("latin1").replace(/0C94/i, "0C95"), "latin1");
  const { result } = await flashAndListen(bench, serialTarget("uno", uno), images(damaged));
  expect(result).toMatchObject({ ok: false, failure: { kind: "image-unsuitable" } });
  expect(result).toMatchObject({ failure: { detail: expect.stringContaining("checksum") } });
});

test("a board that runs its program does not answer, and nothing is written", async () => {
  expect((await flashAndListen(bench, serialTarget("uno", uno), images(sketch))).result.ok).toBe(true);
  // Its terminal has no reset line, so the bootloader does not start again.
  const { result } = await flashAndListen(bench, serialTarget("uno", uno), images(sketch), {
    limit: { totalMs: 8_000 },
  });
  expect(result).toMatchObject({ ok: false, failure: { kind: "deadline", effect: "none" } });
});
