import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { defaultTreesBytesMax, escapeName, keepImage, type TreeName, Workspace } from "#compile-agent/workspace.ts";
import { Configuration } from "#protocol/ids.ts";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fixture = join(import.meta.dirname, "../fixtures/tree-remover.ts");
/** Runs the command after it without the superuser's rights. */
const asNobody = 'exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"';
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

test("a tree that something still writes into is not given to the next build", async () => {
  const disk = Promise.withResolvers<void>();
  await workspace.withTree(porch, undefined, async (tree) => tree.keepFor(disk.promise));
  let isIn = false;
  const next = workspace.withTree(porch, undefined, async () => (isIn = true));
  await workspace.withTree({ ...porch, version: "2026.9.0" }, undefined, async () => undefined);
  expect(isIn).toBe(false);
  disk.reject(new RangeError("gone"));
  expect(await next).toBe(true);
});

const never = new AbortController().signal;
const treeFolder = ({ version, configuration }: TreeName) =>
  join(home.path, "trees", escapeName(version), escapeName(configuration));
async function warm(...trees: readonly TreeName[]): Promise<void> {
  for (const tree of trees) {
    await workspace.withTree(tree, undefined, ({ source }) => writeFile(join(source, "object.o"), "warm"));
  }
}
const removedFolders = () => readdir(join(home.path, "removed"));

test("warm trees are known by name after a restart, and a clean removes them all", async () => {
  const odd = { version: "command", configuration: Configuration.parse("größe 1") };
  await warm(porch, { ...porch, version: "2026.9.0" }, odd);
  const restarted = new Workspace(home.path);
  expect(await restarted.warmTrees()).toHaveLength(3);
  expect(await restarted.warmTrees()).toContainEqual(expect.objectContaining(odd));
  expect(await restarted.removeTrees(porch, { signal: never })).toEqual({ trees: 2 });
  expect(await restarted.warmTrees()).toMatchObject([odd]);
  expect(await removedFolders()).toEqual([]);
  expect(await restarted.removeTrees(porch, { signal: never })).toEqual({ trees: 0 });
});

test("a removal takes every tree out of its place before it deletes one, also a tree without a note", async () => {
  await warm(porch, { ...porch, version: "2026.9.0" });
  await rm(join(treeFolder(porch), "tree.json"));
  const seen: unknown[] = [];
  const onOut = async () => void seen.push(await workspace.warmTrees(), (await removedFolders()).length);
  const onGone = () => seen.push("gone");
  expect(await workspace.removeTrees(porch, { signal: never, onOut, onGone })).toEqual({ trees: 2 });
  expect(seen).toEqual([[], 2, "gone", "gone"]);
});

test("a removal of everything takes what builds have left elsewhere, and nothing that is in use", async () => {
  await warm(porch);
  const left = new Workspace(home.path);
  await writeFile(join(await left.resultFolder(), "image"), "of a killed agent");
  await mkdir(join(home.path, "removed", "half"), { recursive: true });
  const used = await workspace.resultFolder();
  const dropped = await workspace.resultFolder();
  await workspace.dropResult(dropped);
  expect(await workspace.removeTrees("all", { signal: never })).toEqual({ trees: 1 });
  expect(await workspace.leftResults()).toEqual([used]);
  expect(await removedFolders()).toEqual([]);
  expect(await workspace.warmTrees()).toEqual([]);
});

test("a removal waits for the build in the tree, and one that is called off leaves it as it is", async () => {
  const gate = Promise.withResolvers<void>();
  const isIn = Promise.withResolvers<void>();
  const build = workspace.withTree(porch, undefined, async ({ source }) => {
    isIn.resolve();
    await gate.promise;
    await writeFile(join(source, "firmware"), "done");
  });
  await isIn.promise;
  const abort = new AbortController();
  const calledOff = workspace.removeTrees(porch, { signal: abort.signal });
  const removal = workspace.removeTrees(porch, { signal: never });
  abort.abort();
  expect(await calledOff).toBeUndefined();
  expect(await workspace.warmTrees()).toMatchObject([porch]);
  gate.resolve();
  await build;
  expect(await removal).toEqual({ trees: 1 });
});

test("a tree that is half deleted when the agent is killed is no warm tree, and the next start deletes the rest", async () => {
  await warm(porch, { ...porch, version: "2026.9.0" });
  const cleaner = spawn(process.execPath, [fixture, home.path, "hold"], { stdio: ["ignore", "pipe", "inherit"] });
  const exit = once(cleaner, "exit");
  await once(cleaner.stdout, "data");
  cleaner.kill("SIGKILL");
  await exit;
  const restarted = new Workspace(home.path);
  expect(await restarted.warmTrees()).toEqual([]);
  expect(await removedFolders()).toHaveLength(2);
  expect(await restarted.removeLeftovers()).toBeUndefined();
  expect(await removedFolders()).toEqual([]);
});

test("what cannot be deleted is named, is no tree any more, and does not keep the rest", async () => {
  const others = { version: "command", configuration: Configuration.parse("stairs") };
  await warm(porch, others);
  // Files of another user, as builds in containers leave them; who is the superuser here becomes a plain one for it.
  const foreign = join(treeFolder(porch), "source", "foreign");
  await mkdir(foreign);
  await writeFile(join(foreign, "file"), "");
  const isRoot = process.getuid?.() === 0;
  if (isRoot) execFileSync("chown", ["-R", "nobody", home.path]);
  if (isRoot) execFileSync("chown", ["root", foreign]);
  await chmod(foreign, 0o555);
  const result = execFileSync("sh", ["-c", isRoot ? asNobody : '"$@"', "-", process.execPath, fixture, home.path], {
    encoding: "utf8",
  });
  await chmod(foreign, 0o755).catch(() => undefined);
  const [grave] = await removedFolders();
  await chmod(join(home.path, "removed", grave!, "source", "foreign"), 0o755);
  expect(JSON.parse(result)).toMatchObject({
    trees: 1,
    stuck: { isOut: true, code: "EACCES", path: join(home.path, "removed", grave!) },
  });
  expect(await workspace.warmTrees()).toEqual([]);
});

test("a tree that cannot leave its place stands as it was", async () => {
  await warm(porch);
  // On another file system, where no rename leads.
  await symlink("/proc/self", join(home.path, "removed"));
  const removal = await workspace.removeTrees(porch, { signal: never });
  expect(removal).toMatchObject({ trees: 0, stuck: { path: treeFolder(porch), isOut: false } });
  expect(await workspace.warmTrees()).toMatchObject([porch]);
});

/** A workspace whose clock counts, and what waits for the next measurement of a tree. */
function measuredWorkspace() {
  let now = 1_000;
  let measured = Promise.withResolvers<void>();
  const clock = { ...systemClock, now: () => now };
  const own = new Workspace(home.path, { clock, onMeasured: () => measured.resolve() });
  async function build(configuration: string, kilobytes: number): Promise<TreeName> {
    measured = Promise.withResolvers();
    const tree = { version: "2026.10.0", configuration: Configuration.parse(configuration) };
    await own.withTree(tree, undefined, async ({ source }) => {
      await mkdir(join(source, "deep"), { recursive: true });
      await writeFile(join(source, "deep", "object.o"), randomBytes(kilobytes * 1_024));
      now += 1_000;
    });
    await measured.promise;
    return tree;
  }
  return { own, build };
}
const namesOf = (trees: readonly TreeName[]) => trees.map(({ configuration }) => configuration);

test("a build notes what its tree takes of the disk and when that was, and the newest tree is stated first", async () => {
  const { own, build } = measuredWorkspace();
  await build("porch", 200);
  await build("attic", 100);
  await build("cellar", 100);
  const again = await build("porch", 400);
  const [first, ...others] = await own.warmTrees();
  expect(first).toMatchObject({ ...again, usedAt: 5_000 });
  expect(first!.bytes! / 1_024).toBeGreaterThanOrEqual(400);
  expect(first!.bytes! / 1_024).toBeLessThan(440);
  expect(namesOf(others)).toEqual(["cellar", "attic"]);
  expect(await new Workspace(home.path).warmTrees()).toEqual([first, ...others]);
});

test("room is made of the trees that were used longest ago, and the rest is stated before they are deleted", async () => {
  const { own, build } = measuredWorkspace();
  for (const name of ["porch", "attic", "cellar", "porch"]) await build(name, 100);
  const seen: unknown[] = [];
  const onOut = async () => void seen.push(namesOf(await own.warmTrees()), (await removedFolders()).length);
  expect(await own.makeRoom(1_000_000, { signal: never, onOut })).toEqual({ trees: 0 });
  expect(await own.makeRoom(150 * 1_024, { signal: never, onOut })).toEqual({ trees: 2 });
  expect(seen).toEqual([["porch", "cellar", "attic"], 0, ["porch"], 2]);
  expect(await removedFolders()).toEqual([]);
  expect(await own.makeRoom(1, { signal: never })).toEqual({ trees: 1 });
});

test("no room is made of a tree that a build works in or waits for", async () => {
  const { own, build } = measuredWorkspace();
  const oldest = await build("porch", 100);
  await build("attic", 100);
  const gate = Promise.withResolvers<void>();
  const isIn = Promise.withResolvers<void>();
  const working = own.withTree(oldest, undefined, async () => {
    isIn.resolve();
    await gate.promise;
  });
  await isIn.promise;
  const waiting = own.withTree(oldest, undefined, async ({ source }) => readdir(join(source, "deep")));
  expect(await own.makeRoom(1, { signal: never })).toEqual({ trees: 1 });
  expect(namesOf(await own.warmTrees())).toEqual(["porch"]);
  gate.resolve();
  await working;
  expect(await waiting).toEqual(["object.o"]);
});

test("a tree whose size nobody has noted is measured when room is made, and one without a note goes first", async () => {
  const { own, build } = measuredWorkspace();
  const old = await build("porch", 100);
  const noted = { v: 1, version: old.version, configuration: old.configuration, usedAt: 5 };
  await writeFile(join(treeFolder(old), "tree.json"), JSON.stringify(noted));
  const lost = await build("attic", 100);
  await writeFile(join(treeFolder(lost), "tree.json"), "{");
  expect(await own.makeRoom(1_000_000, { signal: never })).toEqual({ trees: 0 });
  const [found] = await own.warmTrees();
  expect(found).toMatchObject(old);
  expect(found!.bytes).toBeGreaterThan(100 * 1_024);
  expect(await own.makeRoom(150 * 1_024, { signal: never })).toEqual({ trees: 1 });
  expect(await readdir(join(treeFolder(old), ".."))).toEqual([basename(treeFolder(old))]);
});

test("trees may take a quarter of their disk, and no more than 50 GB", async () => {
  const bytes = await defaultTreesBytesMax(home.path);
  expect(bytes).toBeGreaterThan(0);
  expect(bytes).toBeLessThanOrEqual(50_000_000_000);
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
