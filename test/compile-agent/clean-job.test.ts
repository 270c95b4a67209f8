/** The jobs of the compile lane that take build trees away. */
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { cleanOf, CompileBench, lamp } from "#test/support/compile-bench.ts";
import { configurationNamed } from "#test/support/farm-builders.ts";

let bench: CompileBench;
beforeEach(async () => {
  bench = await CompileBench.open();
});
afterEach(() => bench[Symbol.asyncDispose]());

const warm = (name: string) =>
  bench.workspace.withTree({ version: "2026.10.0", configuration: configurationNamed(name) }, undefined, ({ source }) =>
    writeFile(join(source, "object.o"), "warm"),
  );

test("a clean takes the trees of its configuration away and has its own log", async () => {
  await Promise.all([warm("lamp"), warm("fan")]);
  expect(await bench.does(cleanOf("configuration"))).toEqual({ kind: "cleaned", trees: 1 });
  expect((await bench.workspace.warmTrees()).map((tree) => tree.configuration)).toEqual(["fan"]);
  expect(bench.said).toEqual(["clean: cleaning"]);
  expect(bench.lines).toEqual(["clean: taking the build trees of lamp away", "clean: 1 build tree is gone"]);
});

test("a clean of everything takes every tree away", async () => {
  await Promise.all([warm("lamp"), warm("fan")]);
  expect(await bench.does(cleanOf("all"))).toEqual({ kind: "cleaned", trees: 2 });
  expect(await bench.workspace.warmTrees()).toEqual([]);
  expect(bench.lines.at(-1)).toBe("clean: 2 build trees are gone");
});

test("a clean has the statement without the trees made before it is over", async () => {
  await warm("lamp");
  const told: number[] = [];
  const gate = Promise.withResolvers<void>();
  const isAsked = Promise.withResolvers<void>();
  let isOver = false;
  const announceTrees = async () => {
    told.push((await bench.workspace.warmTrees()).length);
    isAsked.resolve();
    await gate.promise;
  };
  const cleaning = bench.does(cleanOf("configuration"), { announceTrees }).finally(() => (isOver = true));
  await isAsked.promise;
  expect(isOver).toBe(false);
  gate.resolve();
  expect(await cleaning).toEqual({ kind: "cleaned", trees: 1 });
  expect(new Set(told)).toEqual(new Set([0]));
});

test("a clean that is told to stop while a build has the tree is stopped, and the tree stands", async () => {
  const gate = Promise.withResolvers<void>();
  const isIn = Promise.withResolvers<void>();
  const build = bench.workspace.withTree({ version: "2026.10.0", configuration: lamp }, undefined, async () => {
    isIn.resolve();
    await gate.promise;
  });
  await isIn.promise;
  const stop = new AbortController();
  const cleaning = bench.does(cleanOf("configuration"), {}, {}, { signal: stop.signal });
  stop.abort();
  expect(await cleaning).toEqual({ kind: "stopped" });
  gate.resolve();
  await build;
  expect(await bench.workspace.warmTrees()).toHaveLength(1);
});

test("a clean whose agent has no room to move trees says which file and why", async () => {
  await warm("lamp");
  await writeFile(join(bench.home.path, "build", "removed"), "in the way");
  const result = await bench.does(cleanOf("configuration"));
  expect(result).toMatchObject({
    kind: "failed",
    failure: { kind: "tree-stuck", code: "EEXIST", isOut: false, trees: 0 },
  });
  expect(bench.lines.at(-1)).toContain("cannot be taken away (EEXIST: ");
  expect(await bench.workspace.warmTrees()).toHaveLength(1);
});

test("a clean says of a tree that cannot leave its place what the system says", async () => {
  await warm("lamp");
  await mkdir(join(bench.home.path, "elsewhere"));
  execFileSync("ln", ["-s", "/proc/self", join(bench.home.path, "build", "removed")]);
  const result = await bench.does(cleanOf("configuration"));
  expect(result).toMatchObject({ failure: { kind: "tree-stuck", isOut: false, trees: 0 } });
});
