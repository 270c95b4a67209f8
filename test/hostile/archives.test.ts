/** Every hostile bundle through the job of a compile agent, from the store to the tree. */
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { digestOf } from "#actor/digest.ts";
import { describeFailure } from "#protocol/failure.ts";
import { CommandBuildSpec, type JobResult } from "#protocol/job.ts";
import { hostileArchives } from "#test/hostile/archives.ts";
import { entry, pax, tgz } from "#test/hostile/raw-tar.ts";
import { CompileBench, compileOf } from "#test/support/compile-bench.ts";

let bench: CompileBench;
/** What lies where a bundle could reach it by one or two steps upwards. */
const canary = "mine";
beforeAll(async () => {
  bench = await CompileBench.open();
  await mkdir(join(bench.home.path, "build", "trees"), { recursive: true });
  await writeFile(join(bench.home.path, "harm"), canary);
});
afterAll(() => bench[Symbol.asyncDispose]());

async function built(bytes: Buffer, script: string): Promise<JobResult> {
  const argv = ["sh", "-c", script];
  const bundle = digestOf(bytes);
  const bundles = bench.bundlesFrom(async (_digest, path) => {
    await writeFile(path, bytes);
    return { ok: true, bytes: bytes.length };
  });
  return bench.does(compileOf(CommandBuildSpec.parse({ driver: "command", bundle, argv, artifacts: ["*.bin"] })), {
    bundles,
  });
}

/** Names of everything below the bench but the bundles as they came. */
async function below(): Promise<readonly string[]> {
  const names = await readdir(bench.home.path, { recursive: true });
  return names.filter((name) => !/^(bundles|groups|project)\b/.test(name)).toSorted();
}

/** The same, once the note of a tree's size has taken its place, which happens behind the end of a build. */
function settled(): Promise<readonly string[]> {
  return vi.waitFor(async () => {
    const names = await below();
    expect(names.filter((name) => /\/draft-[0-9a-f]{8}$/.test(name))).toEqual([]);
    return names;
  });
}

const sound = (content: string) => tgz(entry({ name: "source.txt", content }));

test("there are enough of them, each by a name of its own", () => {
  const names = hostileArchives.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThanOrEqual(70);
});

test.each(hostileArchives)("a bundle with $name is refused by a clear word, and writes nothing", async (archive) => {
  // The tree is warm: what an earlier build has left must stay as it is.
  expect(await built(sound("before"), "cat source.txt > a.bin")).toMatchObject({ kind: "built" });
  const before = await settled();
  const result = await built(archive.bytes(), "echo built > a.bin");
  if (result.kind !== "failed") throw new Error(`it was taken: ${JSON.stringify(result)}`);
  expect(result.failure.kind).toBe("bundle-refused");
  const said = describeFailure(result.failure);
  expect(said).toMatch(archive.says);
  expect(said.length).toBeLessThan(400);
  // eslint-disable-next-line no-control-regex -- that there is none is what is tested
  expect(said).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/);
  expect(await settled()).toEqual(before);
  expect(await readFile(join(bench.home.path, "harm"), "utf8")).toBe(canary);
  expect(await built(sound("after"), "cat source.txt > a.bin")).toMatchObject({ kind: "built", isWarm: true });
});

test("a bundle's bits for another user, its owner and its time are not taken over", async () => {
  const bundle = tgz(entry({ name: "tool.sh", content: "#!/bin/sh", mode: 0o6777 }));
  expect(await built(bundle, "cp tool.sh a.bin")).toMatchObject({ kind: "built" });
  const tool = (await below()).find((name) => name.endsWith("tool.sh"));
  const { mode, uid } = await stat(join(bench.home.path, tool ?? ""));
  expect([mode & 0o7777, uid]).toEqual([0o755, process.getuid?.()]);
});

test("what only some programs read in a header cannot move a file", async () => {
  const bundle = tgz(
    pax({ path: "../../harm" }, "g"),
    pax({ path: "nul\u0000/../../../harm" }),
    entry({ name: "a", content: "x" }),
    entry({ name: "source.txt", content: "y" }),
  );
  expect(await built(bundle, "cat source.txt > a.bin")).toMatchObject({ kind: "built" });
  expect(await readFile(join(bench.home.path, "harm"), "utf8")).toBe(canary);
});
