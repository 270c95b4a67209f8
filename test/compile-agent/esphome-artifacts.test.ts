import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findEsphomeArtifacts } from "#compile-agent/esphome-artifacts.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let source: TemporaryFolder;
beforeEach(async () => {
  source = await temporaryFolder();
});
afterEach(() => source[Symbol.asyncDispose]());

/** What ESPHome leaves of a build of `porch.yaml`: its storage file, and these files beside the firmware. */
async function builtFor(platform: string, firmware: string, files: readonly string[]): Promise<string> {
  const buildPath = join(source.path, ".esphome", "build", "porch");
  const bin = join(buildPath, firmware);
  for (const file of [bin, ...files.map((name) => join(dirname(bin), name))]) {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, file);
  }
  const storage = {
    name: "porch",
    esp_platform: platform.toUpperCase(),
    core_platform: platform,
    build_path: buildPath,
    firmware_bin_path: bin,
  };
  await mkdir(join(source.path, ".esphome", "storage"), { recursive: true });
  await writeFile(join(source.path, ".esphome", "storage", "porch.yaml.json"), JSON.stringify(storage));
  return dirname(bin);
}

test("a build for an ESP32 has its images, and its ELF apart from them", async () => {
  const files = ["firmware.ota.bin", "firmware.factory.bin", "firmware.elf", "porch.elf"];
  const folder = await builtFor("esp32", "build/porch.bin", files);
  const found = await findEsphomeArtifacts(source.path, "porch.yaml");
  expect(found?.images.map(({ role, name }) => [role, name])).toEqual([
    ["ota", "firmware.ota.bin"],
    ["factory", "firmware.factory.bin"],
  ]);
  expect(found?.debug).toEqual({ role: "debug", name: "firmware.elf", file: join(folder, "firmware.elf") });
});

test("the ELF is found where each platform leaves it", async () => {
  const elves = [
    ["esp8266", ".pioenvs/porch/firmware.bin", "firmware.elf"],
    ["esp32", "build/porch.bin", "porch.elf"],
    ["nrf52", ".pioenvs/porch/firmware.uf2", "zephyr/zephyr/zephyr.elf"],
    ["bk72xx", ".pioenvs/porch/firmware.uf2", "raw_firmware.elf"],
  ] as const;
  for (const [platform, firmware, elf] of elves) {
    await using own = await temporaryFolder();
    source = own;
    const folder = await builtFor(platform, firmware, [elf]);
    expect((await findEsphomeArtifacts(own.path, "porch.yaml"))?.debug?.file).toBe(join(folder, elf));
  }
});

test("for the host the program itself has the symbols, and a build without an ELF has none", async () => {
  const folder = await builtFor("host", ".pioenvs/porch/program", []);
  const program = join(folder, "program");
  expect(await findEsphomeArtifacts(source.path, "porch.yaml")).toMatchObject({
    platform: "host",
    images: [{ role: "ota", name: "program", file: program }],
    debug: { role: "debug", name: "program", file: program },
  });
  await builtFor("rp2040", ".pioenvs/porch/firmware.uf2", []);
  expect(await findEsphomeArtifacts(source.path, "porch.yaml")).not.toHaveProperty("debug");
});
