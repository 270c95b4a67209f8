import { expect, test } from "vitest";
import { filesOf } from "#cli/image-files.ts";
import { digestNumber, manifestOfBuild } from "#test/support/farm-builders.ts";

const manifest = manifestOfBuild("build");
const [image] = manifest.images;

test("what has been built without debug symbols is its images", () => {
  expect(filesOf(manifest).map(({ name }) => name)).toEqual(["firmware.ota.bin"]);
});

test("a program that is its own debug file is written once, and another of its name beside it", () => {
  const same = { ...image!, role: "debug" as const };
  expect(filesOf({ ...manifest, debug: [same] })).toHaveLength(1);
  const other = { ...same, digest: digestNumber(99) };
  const elf = { ...other, name: "firmware.elf" };
  expect(filesOf({ ...manifest, debug: [other, elf] }).map(({ name }) => name)).toEqual([
    "firmware.ota.bin",
    "firmware.ota.bin.debug",
    "firmware.elf",
  ]);
});
