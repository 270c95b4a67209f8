/** An upload over a port to a chip that is known by its address, as a whole job, with a stand-in for esptool. */
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { describeFailure, effectOf } from "#protocol/failure.ts";
import type { JobResult } from "#protocol/job.ts";
import { uploadHandler } from "#upload-agent/upload-job.ts";
import { factoryImage } from "#test/fixtures/serial/esp-image.ts";
import { chainNumber, configurationNamed } from "#test/support/farm-builders.ts";
import { serialBench, serialTarget } from "#test/support/serial-bench.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const output = join(import.meta.dirname, "../../fixtures/serial/output");
const image = factoryImage("esp32c3", 3_000);
/** As the stand-in says it. */
const atPort = "24:0A:C4:12:34:56";

let folder: TemporaryFolder;

beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder[Symbol.asyncDispose]());

async function flashTo(mac: string): Promise<{ result: JobResult; claims: number; calls: readonly string[] }> {
  const path = join(folder.path, "esptool");
  const said = (name: string) => `cat '${join(output, `${name}.txt`)}'`;
  const asked = `case "$*" in *read-mac*) ${said("esptool-read-mac")}; exit;; esac`;
  await writeFile(path, `#!/bin/sh\necho "$@" >> '${path}.calls'\n${asked}\n${said("esptool-written")}\n`);
  await chmod(path, 0o755);
  const esptool = { argv: [path], version: "5.4.0", variables: {} };
  let claims = 0;
  const handler = uploadHandler({
    artifacts: { get: async () => ({ ok: true, bytes: image }) },
    clock: systemClock,
    serial: serialBench({ folder: folder.path, ports: { bench: "/dev/null" }, esptool }),
    openLog: () => ({ line: () => undefined, close: async () => undefined }),
    say: () => undefined,
  });
  const result = await handler(
    {
      v: 1,
      chain: chainNumber(1),
      attempt: 1,
      configuration: configurationNamed("desk lamp"),
      job: "upload",
      mode: "flash",
      target: serialTarget("bench", { kind: "esptool", chip: "esp32c3" }, { mac }),
      manifest: {
        v: 1,
        tool: { name: "make", version: "4" },
        platform: "esp32",
        images: [{ role: "factory", name: "firmware.factory.bin", digest: digestOf(image), bytes: image.length }],
      },
    },
    {
      signal: new AbortController().signal,
      claimFlash: async () => {
        claims += 1;
        return "go";
      },
      mayStart: () => claims > 0,
      release: async () => undefined,
    },
  );
  const calls = (await readFile(`${path}.calls`, "utf8")).trimEnd().split("\n");
  return { result, claims, calls };
}

test("another chip than the known one is refused before anything is claimed or written, with what to do", async () => {
  const { result, claims, calls } = await flashTo("24:0A:C4:FF:FF:FF");
  if (result.kind !== "failed") throw new Error(`it is ${result.kind}`);
  expect(effectOf(result.failure)).toBe("none");
  expect(describeFailure(result.failure)).toBe(
    `another device answers at bench: wanted bench (24:0A:C4:FF:FF:FF), found ${atPort}; nothing was flashed ` +
      "(where the hardware was replaced: `flashyard device forget 'desk lamp'`)",
  );
  expect([claims, calls.filter((call) => call.includes("write-flash"))]).toEqual([0, []]);
});

test("the known chip is flashed, and its address reported", async () => {
  const { result } = await flashTo(atPort.toLowerCase());
  expect(result).toMatchObject({ kind: "flashed", level: "committed", wrote: true, chipMac: atPort });
});
