/** What esptool says is not believed alone: a stand-in says what the real one never would. */
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { prepareSerial, type SerialBench } from "#upload-agent/serial/flash-serial.ts";
import { factoryImage } from "#test/fixtures/serial/esp-image.ts";
import { flashAndListen, letGo, serialBench, serialTarget } from "#test/support/serial-bench.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const output = join(import.meta.dirname, "../../fixtures/serial/output");
const image = factoryImage("esp32c3", 3_000);
const images = [{ role: "factory", name: "firmware.factory.bin", bytes: image }] as const;
const target = serialTarget("bench", { kind: "esptool", chip: "esp32c3" });
const who = `cat '${join(output, "esptool-read-mac.txt")}'`;
const written = `cat '${join(output, "esptool-written.txt")}'`;

let folder: TemporaryFolder;

beforeEach(async () => {
  folder = await temporaryFolder();
});

afterEach(() => folder[Symbol.asyncDispose]());

/** @param asked answers `read-mac` @param writes one for each start of `write-flash`, the last one for all further */
async function benchWith(asked: string, ...writes: readonly string[]): Promise<SerialBench> {
  const path = join(folder.path, "esptool");
  const tries = writes.map(
    (script, index) =>
      `if [ "$count" = ${index + 1} ] || [ ${index + 1} = ${writes.length} ]; then ${script}; exit; fi`,
  );
  const script = `#!/bin/sh
echo "$@" >> '${path}.calls'
case "$*" in *read-mac*) ${asked}; exit;; esac
echo >> '${path}.count'; count=$(wc -l < '${path}.count' | tr -d ' ')
${tries.join("\n")}
`;
  await writeFile(path, script);
  await chmod(path, 0o755);
  const esptool = { argv: [path], version: "5.4.0", variables: {} };
  return serialBench({ folder: folder.path, ports: { bench: "/dev/null" }, esptool });
}

const calls = async () => (await readFile(join(folder.path, "esptool.calls"), "utf8")).trimEnd().split("\n");

test("every call names the chip, and the write is that of ESPHome", async () => {
  const bench = await benchWith(who, written);
  expect((await flashAndListen(bench, target, images)).result.ok).toBe(true);
  const common = "--chip esp32c3 --port /dev/null --baud";
  const rest = "--before default-reset --after hard-reset --connect-attempts 2";
  expect(await calls()).toEqual([
    `${common} 115200 ${rest} --no-stub read-mac`,
    expect.stringMatching(
      new RegExp(`^${common} 460800 ${rest} write-flash -z --flash-size detect 0x0 /.+/firmware\\.factory\\.bin$`),
    ),
  ]);
});

test("the rate that the target names comes first, and the slow one only once", async () => {
  const bench = await benchWith(who, `${written} | sed '/10.6%/q'; exit 2`);
  const slow = serialTarget("bench", { kind: "esptool", chip: "esp32c3", baud: 115_200 });
  expect((await flashAndListen(bench, slow, images)).result.ok).toBe(false);
  expect((await calls()).filter((call) => call.includes("write-flash"))).toHaveLength(1);
});

test.each([
  ["exit code 0 without a hash", `${written} | grep -v Hash`, 0],
  ["a hash without exit code 0", `${written}; exit 1`, 1],
])("%s is no success", async (_, script, exitCode) => {
  const bench = await benchWith(who, script);
  expect((await flashAndListen(bench, target, images)).result).toMatchObject({
    ok: false,
    failure: { kind: "flasher-failed", exitCode, effect: "partial" },
  });
});

test.each([
  [
    "a chip that esptool does not know",
    "echo 'esptool v5.4.0'; echo \"WARNING: This chip doesn't appear to be an ESP32-C3 (read chip ID 77).\"",
  ],
  ["an answer without a chip", "echo 'esptool v5.4.0'"],
  ["no answer at all", "true"],
  ["another chip", `${who} | sed s/ESP32-C3/ESP32-C6/`],
])("%s is never written to, whatever the exit code is", async (_, asked) => {
  const bench = await benchWith(asked, written);
  expect((await flashAndListen(bench, target, images)).result).toMatchObject({
    ok: false,
    failure: { kind: "chip-mismatch", wanted: "esp32c3" },
  });
  expect(await calls()).toHaveLength(1);
});

test("after a write that was cut, a refusal at the slow rate does not say that nothing was written", async () => {
  const refused = `cat '${join(output, "esptool-other-chip.txt")}'; exit 2`;
  const bench = await benchWith(who, `${written} | sed '/10.6%/q'; exit 2`, refused);
  expect((await flashAndListen(bench, target, images)).result).toMatchObject({
    ok: false,
    failure: { kind: "flasher-failed", effect: "partial" },
  });
  expect(await calls()).toHaveLength(3);
});

test("a port that leaves the bus when its chip is asked is waited for", async () => {
  const away = `cat '${join(output, "esptool-no-port.txt")}'; exit 2`;
  const bench = await benchWith(who, away, away, written);
  const fast = { ...bench, clock: { ...systemClock, pause: async () => true } };
  expect((await flashAndListen(fast, target, images)).result.ok).toBe(true);
  expect((await calls()).filter((call) => call.includes("write-flash"))).toHaveLength(3);
});

test("the right to flash is asked for before every start that writes", async () => {
  const bench = await benchWith(who, "echo 'esptool v5.4.0'; exit 2");
  let asked = 0;
  const { result } = await flashAndListen(bench, target, images, { mayStart: () => ++asked === 1 });
  expect(asked).toBe(2);
  expect(result).toMatchObject({ ok: false, failure: { kind: "flasher-failed", effect: "none" } });
  expect((await calls()).filter((call) => call.includes("write-flash"))).toHaveLength(1);
});

test("a build without a factory image has nothing for a port", async () => {
  const bench = await benchWith(who, written);
  const { result } = await flashAndListen(bench, target, [{ role: "ota", name: "firmware.ota.bin", bytes: image }]);
  expect(result).toMatchObject({ ok: false, failure: { kind: "image-unsuitable" } });
});

test("the tool can be got before anything else is done", async () => {
  const options = { signal: new AbortController().signal, onEvent: () => undefined };
  const without = serialBench({ folder: folder.path, ports: {} });
  expect(await prepareSerial(target, without, options)).toMatchObject({ kind: "toolchain-missing" });
  expect(await prepareSerial(target, await benchWith(who, written), options)).toBeUndefined();
});

test("the wait for the port counts as time of the flash", async () => {
  const bench = await benchWith(who, written);
  const never = new AbortController().signal;
  const other = await bench.owners.own("/dev/null", { signal: never, waitMs: 1_000 });
  const { result } = await flashAndListen(bench, target, images, { limit: { totalMs: 50 } });
  expect(result).toMatchObject({ ok: false, failure: { kind: "port-busy" } });
  await letGo(other);
});

test("a missing tool, a missing port and one that may not be opened are told apart", async () => {
  const without = serialBench({ folder: folder.path, ports: { bench: "/dev/null" } });
  expect((await flashAndListen(without, target, images)).result).toMatchObject({
    failure: { kind: "toolchain-missing" },
  });
  const unplugged = serialBench({ folder: folder.path, ports: { bench: "/dev/absent" } });
  expect((await flashAndListen(unplugged, target, images)).result).toMatchObject({ failure: { kind: "port-missing" } });
});
