import { expect, test } from "vitest";
import { readPipRefusal } from "#toolchain/pip-refusal.ts";

const listed = "1.21.0b3, 2025.12.0, 2026.1.0, 2026.9.0, 2026.9.1, 2026.10.0b1, 2026.10.0, 2026.10.1";
const unknown = (version: string, versions: string) =>
  [
    `ERROR: Could not find a version that satisfies the requirement esphome==${version} (from versions: ${versions})`,
    `ERROR: No matching distribution found for esphome==${version}`,
  ].join("\n");

test("a release that does not exist comes with the nearest that do", () => {
  expect(readPipRefusal(unknown("2026.10.99", listed), "esphome", "2026.10.99", "3.12.1")).toEqual({
    kind: "no-such-version",
    nearest: ["2026.10.1", "2026.10.0", "2026.9.1", "2026.9.0", "2026.1.0"],
  });
});

test("a release for another Python says which one it wants", () => {
  const ignored =
    "ERROR: Ignored the following versions that require a different python version: 2026.10.0 Requires-Python <3.15,>=3.12.0; 2026.7.0 Requires-Python >=3.12";
  const output = `${ignored}\n${unknown("2026.10.0", "2026.6.5")}`;
  expect(readPipRefusal(output, "esphome", "2026.10.0", "3.11.7")).toEqual({
    kind: "other-python",
    requires: "<3.15,>=3.12.0",
  });
  const other = `${ignored}\n${unknown("2026.7.9", "2026.6.5")}`;
  expect(readPipRefusal(other, "esphome", "2026.7.9", "3.11.7")).toEqual({
    kind: "no-such-version",
    nearest: ["2026.7.0", "2026.6.5", "2026.10.0"],
  });
});

test("an index that does not list what Python a release wants lets the package say it", () => {
  const output = "ERROR: Package 'esphome' requires a different Python: 3.11.7 not in '<3.15,>=3.12.0'";
  expect(readPipRefusal(output, "esphome", "2026.10.0", "3.11.7")).toEqual({
    kind: "other-python",
    requires: "<3.15,>=3.12.0",
  });
});

test("an index that is out of reach says nothing about the release", () => {
  const retry = "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError'";
  expect(readPipRefusal(`${retry}\n${unknown("2026.10.0", "none")}`, "esphome", "2026.10.0", "3.12.1")).toEqual({
    kind: "other",
    detail: retry,
  });
});

test("a missing dependency is not a missing release", () => {
  const output = "ERROR: No matching distribution found for cryptography==50.0.2";
  expect(readPipRefusal(output, "esphome", "2026.10.0", "3.12.1")).toEqual({ kind: "other", detail: output });
});

test("a full disk is told from the rest", () => {
  const output = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device";
  expect(readPipRefusal(output, "esphome", "2026.10.0", "3.12.1")).toEqual({ kind: "disk-full" });
});
