import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { escapeName, keepImage, Workspace } from "#compile-agent/workspace.ts";
import { Configuration } from "#protocol/ids.ts";
import { digestOf } from "#actor/digest.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
let workspace: Workspace;
const porch = { version: "2026.10.0", configuration: Configuration.parse("porch") };

beforeEach(async () => {
  home = await temporaryFolder();
  workspace = new Workspace(home.path);
});
afterEach(() => home[Symbol.asyncDispose]());

test("folder names are safe, short, and different for different configurations", () => {
  const names = [
    "porch",
    "Porch",
    "größe",
    "grösse",
    "a b",
    "a_b",
    "a.b",
    "x".repeat(120),
    "日本",
    "con",
    "0..",
    "é".repeat(120),
  ];
  const escaped = names.map(escapeName);
  for (const name of escaped) expect(name).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/);
  expect(new Set(escaped.map((name) => name.toLowerCase())).size).toBe(names.length);
  expect(escapeName("porch")).toMatch(/^porch\.[0-9a-f]{12}$/);
  expect(escapeName("../../etc")).not.toContain("..");
});

test("builds of one tree follow each other, builds of others do not wait", async () => {
  const steps: string[] = [];
  const gate = Promise.withResolvers<void>();
  const isIn = Promise.withResolvers<void>();
  const first = workspace.withTree(porch, undefined, async () => {
    steps.push("first in");
    isIn.resolve();
    await gate.promise;
    steps.push("first out");
  });
  await isIn.promise;
  const second = workspace.withTree(porch, undefined, async () => steps.push("second"));
  await workspace.withTree({ ...porch, version: "2026.9.0" }, undefined, async () => steps.push("other version"));
  gate.resolve();
  await Promise.all([first, second]);
  expect(steps).toEqual(["first in", "other version", "first out", "second"]);
});

test("a build that is called off while it waits never starts, and those behind it do", async () => {
  const gate = Promise.withResolvers<void>();
  const first = workspace.withTree(porch, undefined, () => gate.promise);
  const abort = new AbortController();
  const second = workspace.withTree(porch, abort.signal, async () => "second");
  const third = workspace.withTree(porch, undefined, async () => "third");
  abort.abort();
  expect(await second).toBeUndefined();
  gate.resolve();
  await first;
  expect(await third).toBe("third");
  expect(await workspace.withTree(porch, abort.signal, async () => "late")).toBeUndefined();
});

test("a build that throws leaves its turn to the next", async () => {
  const failing = workspace.withTree(porch, undefined, () => Promise.reject(new RangeError("boom")));
  await expect(failing).rejects.toThrow("boom");
  expect(await workspace.withTree(porch, undefined, async () => "next")).toBe("next");
});

test("warm trees are known by name after a restart, and a clean removes them all", async () => {
  const odd = { version: "command", configuration: Configuration.parse("größe 1") };
  for (const key of [porch, { ...porch, version: "2026.9.0" }, odd]) {
    await workspace.withTree(key, undefined, ({ source }) => writeFile(join(source, "object.o"), "warm"));
  }
  const restarted = new Workspace(home.path);
  expect(await restarted.warmTrees()).toHaveLength(3);
  expect(await restarted.warmTrees()).toContainEqual(odd);
  expect(await restarted.removeTrees(porch.configuration)).toBe(2);
  expect(await restarted.warmTrees()).toEqual([odd]);
});

test("a kept image is a copy under its own digest; links and folders are none", async () => {
  const bytes = randomBytes(100_000);
  const file = join(home.path, "program");
  await writeFile(file, bytes);
  const folder = await workspace.resultFolder();
  const kept = await keepImage(file, folder);
  expect(kept).toEqual({ digest: digestOf(bytes), path: join(folder, digestOf(bytes)), bytes: 100_000 });
  await writeFile(file, "changed by the next build");
  expect(await readFile(kept!.path)).toEqual(bytes);
  await symlink("/etc/passwd", join(home.path, "link"));
  await mkdir(join(home.path, "folder"));
  for (const name of ["link", "folder", "absent"])
    expect(await keepImage(join(home.path, name), folder)).toBeUndefined();
  expect(await readdir(folder)).toEqual([digestOf(bytes)]);
  expect((await workspace.leftResults()).map((path) => basename(path))).toEqual([basename(folder)]);
});
