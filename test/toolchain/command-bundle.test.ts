import { chmod, cp, mkdir, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeCommandBundle } from "#toolchain/command-bundle.ts";
import { unpack } from "#test/support/bundle-tar.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const example = join(import.meta.dirname, "../../examples/command-c");
let home: TemporaryFolder;
let folder: string;

beforeEach(async () => {
  home = await temporaryFolder();
  folder = join(home.path, "project");
  await cp(example, folder, { recursive: true, filter: (source) => !source.endsWith("build") });
});
afterEach(() => home[Symbol.asyncDispose]());

async function bundleOf(path: string, options?: Parameters<typeof makeCommandBundle>[1]) {
  const bundle = await makeCommandBundle(path, options);
  if (!bundle.ok) throw new Error(JSON.stringify(bundle));
  return bundle;
}

test("the bytes depend on names, contents and executable bits, not on times, owners or the folder", async () => {
  const first = await bundleOf(folder);
  expect(first.files).toEqual(["Makefile", "README.md", "src/blink.c", "src/blink.h"]);
  const copy = join(home.path, "elsewhere", "copy");
  await cp(folder, copy, { recursive: true });
  await utimes(join(copy, "Makefile"), new Date(0), new Date(0));
  await chmod(join(copy, "README.md"), 0o600);
  expect((await bundleOf(copy)).digest).toBe(first.digest);
  await chmod(join(copy, "README.md"), 0o755);
  expect((await bundleOf(copy)).digest).not.toBe(first.digest);
});

test("what it packs is what comes out", async () => {
  await writeFile(join(folder, "@odd name"), "odd");
  await mkdir(join(folder, "ä"));
  await writeFile(join(folder, "ä", "x".repeat(150)), "long");
  await writeFile(join(folder, "run.sh"), "#!/bin/sh\n", { mode: 0o755 });
  const bundle = await bundleOf(folder);
  const unpacked = await unpack(bundle.bytes, home.path, join(home.path, "tree"));
  if (!unpacked.ok) throw new Error(JSON.stringify(unpacked));
  expect(unpacked.files.toSorted()).toEqual([...bundle.files].toSorted());
  expect((await bundleOf(join(home.path, "tree"))).digest).toBe(bundle.digest);
});

test("version control, packages and what the user names are left out", async () => {
  for (const path of [
    ".git/config",
    "node_modules/a/index.js",
    "lib/node_modules/b.js",
    "build/blink.elf",
    "src/blink.o",
  ]) {
    await mkdir(join(folder, path, ".."), { recursive: true });
    await writeFile(join(folder, path), "x");
  }
  const bundle = await bundleOf(folder, { skip: ["build", "**/*.o"] });
  expect(bundle.files).toEqual(["Makefile", "README.md", "src/blink.c", "src/blink.h"]);
});

test("a link to a file inside is packed as the file, and every other link is refused by name", async () => {
  await symlink("src/blink.h", join(folder, "alias.h"));
  expect((await bundleOf(folder)).files).toContain("alias.h");
  const reasonFor = async (target: string) => {
    await symlink(target, join(folder, "link"));
    const result = await makeCommandBundle(folder);
    await rm(join(folder, "link"));
    return result.ok || result.aborted || result.failure.kind !== "bundle-refused" ? "" : result.failure.reason;
  };
  const refused = "link is not a file, nor a link to one inside the folder; skip it";
  for (const target of ["/etc/passwd", "src", "nowhere", "../../"]) expect(await reasonFor(target)).toBe(refused);
});

test("nothing to pack, no folder, and too much are refused", async () => {
  await mkdir(join(home.path, "empty"));
  const limits = { bytesMax: 1_000_000, unpackedBytesMax: 300, filesMax: 3 };
  const reasons = await Promise.all([
    makeCommandBundle(join(home.path, "empty")),
    makeCommandBundle(join(home.path, "absent")),
    makeCommandBundle(folder, { limits }),
    makeCommandBundle(folder, { limits: { ...limits, unpackedBytesMax: 1_000_000 } }),
    makeCommandBundle(folder, { limits: { bytesMax: 10, unpackedBytesMax: 1_000_000, filesMax: 100 } }),
  ]);
  expect(reasons.map((result) => JSON.stringify(result))).toEqual([
    expect.stringContaining("no file to build from"),
    expect.stringContaining("there is no folder"),
    expect.stringContaining("more than 300 bytes"),
    expect.stringContaining("more than 3 files"),
    expect.stringContaining("at most 10 are allowed"),
  ]);
});
