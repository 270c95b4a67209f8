import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { folderSpool, memorySpool, type SpooledResult } from "#actor/result-spool.ts";
import { built, chainNumber, failedWith, failures } from "#test/support/farm-builders.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const first: SpooledResult = { chain: chainNumber(1), job: "compile", attempt: 1, result: built() };
const second: SpooledResult = { ...first, attempt: 2, result: failedWith(failures.final) };

test.each(["folder", "memory"])("the %s spool gives back what was written until it is removed", async (kind) => {
  await using home = await temporaryFolder();
  const spool = kind === "folder" ? folderSpool(join(home.path, "spool")) : memorySpool();
  expect(await spool.all()).toEqual([]);
  await spool.write(first);
  await spool.write(second);
  await spool.write(second);
  expect(await spool.all()).toEqual(expect.arrayContaining([first, second]));
  expect(await spool.all()).toHaveLength(2);
  await spool.remove(first);
  await spool.remove(first);
  expect(await spool.all()).toEqual([second]);
});

test("a result survives the process that wrote it", async () => {
  await using home = await temporaryFolder();
  await folderSpool(home.path).write(first);
  expect(await folderSpool(home.path).all()).toEqual([first]);
});

test("an entry is there whole or not at all, and one that cannot be decoded is left where it is", async () => {
  await using home = await temporaryFolder();
  const folder = join(home.path, "spool");
  await mkdir(folder);
  const half = `${first.chain}.compile.7.json`;
  await writeFile(join(folder, `${half}.part`), '{"chain":');
  await writeFile(join(folder, half), "{}");
  const spool = folderSpool(folder);
  await spool.write(first);
  expect(await spool.all()).toEqual([first]);
  expect((await readdir(folder)).sort()).toEqual([`${first.chain}.compile.1.json`, half, `${half}.part`].sort());
});
