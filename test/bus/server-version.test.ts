import { expect, test } from "vitest";
import {
  compareServerVersions,
  isServerVersionAccepted,
  parseServerVersion,
  serverVersionMin,
  serverVersionPinned,
} from "#bus/server-version.ts";

test("a version is read with or without its v, with a pre-release, and without its build metadata", () => {
  expect(parseServerVersion("2.15.2")).toEqual({ numbers: [2, 15, 2], preRelease: [] });
  expect(parseServerVersion(" v2.15.2\n")).toEqual({ numbers: [2, 15, 2], preRelease: [] });
  expect(parseServerVersion("2.15.2-RC.1+abc")).toEqual({ numbers: [2, 15, 2], preRelease: ["RC", "1"] });
  for (const text of ["", "2.15", "two", "2.15.2.1", "nats-server: v2.15.2", "2.15.2-"]) {
    expect(parseServerVersion(text)).toBeUndefined();
  }
});

test("versions are in the order of semver", () => {
  const ascending = [
    "2.9.25",
    "2.14.4-RC.1",
    "2.14.4-RC.2",
    "2.14.4-RC.10",
    "2.14.4-RC.10.1",
    "2.14.4",
    "2.15.0",
    "3.0.0",
  ];
  const shuffled = ascending.toReversed().map((text) => parseServerVersion(text)!);
  const sorted = shuffled
    .sort(compareServerVersions)
    .map(({ numbers, preRelease }) =>
      [numbers.join("."), ...(preRelease.length === 0 ? [] : [preRelease.join(".")])].join("-"),
    );
  expect(sorted).toEqual(ascending);
  const order = (a: string, b: string) =>
    Math.sign(compareServerVersions(parseServerVersion(a)!, parseServerVersion(b)!));
  expect(order("2.15.2", "v2.15.2+build")).toBe(0);
  expect(order("2.0.0-1", "2.0.0-alpha")).toBe(-1);
  expect(order("2.0.0-beta", "2.0.0-alpha")).toBe(1);
});

test("the farm accepts its minimum and what is newer, and nothing that it cannot read", () => {
  for (const text of [serverVersionMin, serverVersionPinned, "2.14.5", "3.0.0"]) {
    expect(isServerVersionAccepted(text)).toBe(true);
  }
  for (const text of ["2.14.3", `${serverVersionMin}-RC.1`, "2.9.25", "", "unknown"]) {
    expect(isServerVersionAccepted(text)).toBe(false);
  }
});
