import { randomBytes } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ArchiveLimits } from "#toolchain/archive.ts";
import { unpack } from "#test/support/bundle-tar.ts";
import { bundleOf, tarOf, type TarEntry } from "#test/support/tar-bytes.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
let desk: TemporaryFolder;
let folder: string;

beforeEach(async () => {
  [home, desk] = await Promise.all([temporaryFolder(), temporaryFolder()]);
  folder = join(home.path, "tree");
});
afterEach(() => Promise.all([home[Symbol.asyncDispose](), desk[Symbol.asyncDispose]()]));

const unpackBundle = (bytes: Buffer, into: string, limits?: ArchiveLimits) => unpack(bytes, desk.path, into, limits);

async function refusalOf(bytes: Buffer, limits?: ArchiveLimits) {
  const result = await unpackBundle(bytes, folder, limits);
  if (result.ok || result.aborted || result.failure.kind !== "bundle-refused") throw new Error(JSON.stringify(result));
  return result.failure.reason;
}

const filesBelow = async (path: string) =>
  (await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []))
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name);

describe("what is refused", () => {
  const hostile: readonly (readonly [string, TarEntry[], RegExp])[] = [
    ["a path that leads out", [{ path: "a/../../evil", content: "x" }], /leads out/],
    ["an absolute path", [{ path: "/etc/evil", content: "x" }], /absolute/],
    ["a Windows path", [{ path: "C:/evil", content: "x" }], /absolute/],
    ["a backslash", [{ path: "..\\evil", content: "x" }], /backslash/],
    ["a control character", [{ path: "a\nb", content: "x" }], /control/],
    ["a symbolic link", [{ path: "link", type: "SymbolicLink", linkpath: "/etc/passwd" }], /SymbolicLink/],
    [
      "a hard link",
      [
        { path: "a", content: "x" },
        { path: "link", type: "Link", linkpath: "a" },
      ],
      /Link/,
    ],
    ["a character device", [{ path: "null", type: "CharacterDevice" }], /CharacterDevice/],
    ["a block device", [{ path: "disk", type: "BlockDevice" }], /BlockDevice/],
    ["a pipe", [{ path: "pipe", type: "FIFO" }], /FIFO/],
    ["an exotic entry", [{ path: "sparse", type: "SparseFile", content: "x" }], /SparseFile/],
    [
      "twins",
      [
        { path: "a", content: "1" },
        { path: "./a", content: "2" },
      ],
      /"a" is in it twice/,
    ],
    [
      "twins that only Unicode tells apart",
      [
        { path: "\u00e4", content: "1" },
        { path: "a\u0308", content: "2" },
      ],
      /twice/,
    ],
    [
      "a file that is also a folder",
      [
        { path: "a", content: "1" },
        { path: "a/b", content: "2" },
      ],
      /file and as a folder/,
    ],
    [
      "a folder that is also a file",
      [
        { path: "a/b", content: "1" },
        { path: "a", content: "2" },
      ],
      /twice/,
    ],
    ["a name that is too long", [{ path: `x/${"y".repeat(300)}`, content: "1" }], /long/],
    ["a path that is too long", [{ path: "x/".repeat(600) + "y", content: "1" }], /long/],
    ["an extended header that leads out", [{ path: "fine", content: "1", extended: { path: "../evil" } }], /leads out/],
    ["an extended header with an enormous size", [{ path: "a", content: "1", extended: { size: 1e12 } }], /more than/],
    ["our own corner", [{ path: ".flashyard/files.json", content: "[]" }], /reserved/],
    [
      "a file without a name",
      [
        { path: "./", type: "File", content: "" },
        { path: "", content: "x" },
      ],
      /sound|name/,
    ],
  ];
  test.each(hostile)("%s, and nothing of the bundle is written", async (_name, entries, reason) => {
    expect(await refusalOf(bundleOf([{ path: "before.yaml", content: "fine" }, ...entries]))).toMatch(reason);
    expect(await filesBelow(folder)).toEqual([]);
    expect((await readdir(home.path)).filter((name) => name !== "tree")).toEqual([]);
  });

  test("bytes that are no archive, are cut off, or are compressed twice", async () => {
    expect(await refusalOf(Buffer.from("hello"))).toMatch(/cannot be unpacked/);
    expect(await refusalOf(gzipSync(Buffer.alloc(2_000, "x")))).toMatch(/sound/);
    const whole = bundleOf([{ path: "a", content: randomBytes(5_000) }]);
    expect(await refusalOf(whole.subarray(0, 3_000))).toMatch(/cannot be unpacked/);
    expect(await refusalOf(gzipSync(gunzipSync(whole).subarray(0, 3_000)))).toMatch(/sound/);
    expect(await refusalOf(gzipSync(whole))).toMatch(/compressed twice/);
  });

  test("a bomb, by its header before it is inflated and by its bytes when the header lies", async () => {
    const limits = { bytesMax: 10_000_000, unpackedBytesMax: 1_000_000, filesMax: 10 };
    const honest = bundleOf([{ path: "bomb", content: Buffer.alloc(200_000_000) }]);
    expect(honest.length).toBeLessThan(300_000);
    expect(await refusalOf(honest, limits)).toMatch(/more than 1000000 bytes/);
    // Zeros after the end of the archive: no header speaks of them.
    const trailing = gzipSync(Buffer.concat([tarOf([{ path: "a", content: "x" }]), Buffer.alloc(50_000_000)]));
    expect(await refusalOf(trailing, limits)).toMatch(/something stands behind its end/);
    const many = bundleOf(Array.from({ length: 11 }, (_, i) => ({ path: `f${i}`, content: "x" })));
    expect(await refusalOf(many, limits)).toMatch(/more than 10 files/);
    expect(
      await refusalOf(bundleOf([{ path: "noise", content: randomBytes(20_000) }]), { ...limits, bytesMax: 10_000 }),
    ).toMatch(/at most 10000/);
    expect(await filesBelow(folder)).toEqual([]);
  });
});

describe("a warm tree", () => {
  const first = bundleOf([
    { path: "device.yaml", content: "one" },
    { path: "lib/old.h", content: "old" },
    { path: "lib/same.h", content: "same" },
    { path: "build.sh", content: "#!/bin/sh", mode: 0o755 },
  ]);

  test("keeps unchanged files untouched, takes changed ones, drops former ones and leaves what builds have made", async () => {
    expect(await unpackBundle(first, folder)).toMatchObject({ ok: true });
    expect((await stat(join(folder, "build.sh"))).mode & 0o111).toBe(0o111);
    const past = new Date("2020-01-01");
    for (const name of ["device.yaml", "lib/same.h", "lib/old.h"]) await utimes(join(folder, name), past, past);
    await mkdir(join(folder, ".esphome/build"), { recursive: true });
    await writeFile(join(folder, ".esphome/build/object.o"), "warm");
    await writeFile(join(folder, "lib/generated.o"), "warm");
    const second = bundleOf([
      { path: "device.yaml", content: "two" },
      { path: "lib/same.h", content: "same" },
      { path: "new/deep/file.h", content: "new" },
    ]);
    expect(await unpackBundle(second, folder)).toEqual({
      ok: true,
      files: ["device.yaml", "lib/same.h", "new/deep/file.h"],
    });
    expect(await readFile(join(folder, "device.yaml"), "utf8")).toBe("two");
    expect((await stat(join(folder, "device.yaml"))).mtimeMs).toBeGreaterThan(past.getTime());
    expect((await stat(join(folder, "lib/same.h"))).mtimeMs).toBe(past.getTime());
    expect((await filesBelow(folder)).toSorted()).toEqual(
      ["device.yaml", "file.h", "files.json", "generated.o", "object.o", "same.h"].toSorted(),
    );
  });

  test("stays as it was when the next bundle is refused", async () => {
    await unpackBundle(first, folder);
    await refusalOf(
      bundleOf([
        { path: "device.yaml", content: "two" },
        { path: "../evil", content: "x" },
      ]),
    );
    expect(await readFile(join(folder, "device.yaml"), "utf8")).toBe("one");
    expect(await readFile(join(folder, "lib/old.h"), "utf8")).toBe("old");
  });

  test("without a record keeps only ESPHome's own folder", async () => {
    await mkdir(join(folder, ".esphome"), { recursive: true });
    await writeFile(join(folder, ".esphome/warm"), "warm");
    await writeFile(join(folder, "left.h"), "from whom?");
    await unpackBundle(first, folder);
    expect(await filesBelow(folder)).not.toContain("left.h");
    expect(await filesBelow(folder)).toContain("warm");
  });

  test("wins over what a bundle brings for ESPHome's own folder", async () => {
    const downloads = bundleOf([
      { path: "device.yaml", content: "one" },
      { path: ".esphome/font/a.ttf", content: "fresh" },
      { path: ".esphome/font/b.ttf", content: "fresh" },
      { path: ".esphome/build/porch/build_info.json", content: "{}" },
    ]);
    await mkdir(join(folder, ".esphome/font"), { recursive: true });
    await writeFile(join(folder, ".esphome/font/a.ttf"), "warm");
    await unpackBundle(downloads, folder);
    expect(await readFile(join(folder, ".esphome/font/a.ttf"), "utf8")).toBe("warm");
    expect(await readFile(join(folder, ".esphome/font/b.ttf"), "utf8")).toBe("fresh");
    expect(await filesBelow(folder)).not.toContain("build_info.json");
    await unpackBundle(first, folder);
    expect(await filesBelow(folder)).toContain("b.ttf");
  });

  test("is not left through links that a build has put there", async () => {
    const outside = join(home.path, "outside");
    await mkdir(outside);
    await writeFile(join(outside, "old.h"), "mine");
    await unpackBundle(first, folder);
    execFileSync("rm", ["-r", join(folder, "lib")]);
    await symlink(outside, join(folder, "lib"));
    await unpackBundle(bundleOf([{ path: "device.yaml", content: "two" }]), folder);
    expect(await readFile(join(outside, "old.h"), "utf8")).toBe("mine");
    await unpackBundle(first, folder);
    expect(await readdir(outside)).toEqual(["old.h"]);
    expect(await readFile(join(outside, "old.h"), "utf8")).toBe("mine");
    expect((await filesBelow(join(folder, "lib"))).toSorted()).toEqual(["old.h", "same.h"]);
  });

  test("turns a file into a folder and back", async () => {
    await unpackBundle(bundleOf([{ path: "a", content: "file" }]), folder);
    await unpackBundle(bundleOf([{ path: "a/b", content: "folder" }]), folder);
    expect(await readFile(join(folder, "a/b"), "utf8")).toBe("folder");
    await unpackBundle(bundleOf([{ path: "a", content: "file" }]), folder);
    expect(await readFile(join(folder, "a"), "utf8")).toBe("file");
  });
});

/** A file system of 1 MB; only root may make one. */
function mountTiny(path: string): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", path], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

test("a full disk is disk-full, and the stage is gone afterwards", async (context) => {
  await mkdir(folder);
  if (!mountTiny(folder)) return context.skip();
  try {
    const result = await unpackBundle(bundleOf([{ path: "big", content: randomBytes(3_000_000) }]), folder);
    expect(result).toEqual({ ok: false, aborted: false, failure: { kind: "disk-full", path: folder } });
    expect(await filesBelow(folder)).toEqual([]);
  } finally {
    execFileSync("umount", [folder]);
  }
});
