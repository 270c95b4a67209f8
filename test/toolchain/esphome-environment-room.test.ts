import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, readdir, rename, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Clock, systemClock } from "#actor/clock.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { isInUse, markUse } from "#toolchain/marks-of-use.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fixtures = join(import.meta.dirname, "../fixtures");
let home: TemporaryFolder;
let cache: string;
let python: string;
let now: number;
/** Each look at it is a second later. */
const clock: Clock = { ...systemClock, now: () => (now += 1_000) };

beforeEach(async () => {
  home = await temporaryFolder();
  now = Date.now();
  cache = join(home.path, "cache");
  python = join(home.path, "python", "python3.12");
  await mkdir(join(home.path, "python"));
  await copyFile(join(fixtures, "fake-python.sh"), python);
  await chmod(python, 0o755);
  await writeFile(join(home.path, "python", "python-version"), "3.12.1");
  const installs = `printf '#!/bin/sh\\necho "Version: %s"\\n' "\${requirement#esphome==}" > "$here/esphome"; chmod +x "$here/esphome"`;
  await writeFile(join(home.path, "python", "pip-behaviour"), `for requirement in "$@"; do :; done; ${installs}`);
});
afterEach(() => home[Symbol.asyncDispose]());

const environments = (keepMax?: number) =>
  new EsphomeEnvironments({
    cacheFolder: cache,
    clock,
    pythonHint: python,
    ...(keepMax === undefined ? {} : { keepMax }),
  });
const folderOf = (version: string) => join(cache, "esphome", version);
const filesOf = async (version: string) =>
  (await readdir(folderOf(version))).filter((name) => name !== "lock" && name !== "users");

/** What a build does with an environment. */
async function build(with_: EsphomeEnvironments, version: string): Promise<string> {
  await using _use = await with_.use(version);
  const made = await with_.ensure(version);
  return made.ok ? made.env.esphome : JSON.stringify(made);
}

test("the environment that was used longest ago goes when a new one has been made, and is made again when it is wanted", async () => {
  const kept = environments(2);
  const first = await build(kept, "2026.8.0");
  await build(kept, "2026.9.0");
  expect(await build(kept, "2026.8.0")).toBe(first);
  await build(kept, "2026.10.0");
  expect(await kept.ready()).toEqual(["2026.8.0", "2026.10.0"]);
  expect(await filesOf("2026.9.0")).toEqual([]);
  expect((await stat(await build(kept, "2026.9.0"))).isFile()).toBe(true);
  expect(await kept.ready()).toEqual(["2026.9.0", "2026.10.0"]);
});

test("an environment that a build uses stays, also when it is one too many", async () => {
  const kept = environments(1);
  await using use = await kept.use("2026.8.0");
  await kept.ensure("2026.8.0");
  await build(environments(1), "2026.9.0");
  expect(await kept.ready()).toEqual(["2026.8.0", "2026.9.0"]);
  await use[Symbol.asyncDispose]();
  await build(kept, "2026.10.0");
  expect(await kept.ready()).toEqual(["2026.10.0"]);
});

test("whoever says no end of his use has it until his process ends, however that ends", async () => {
  const argv = [join(fixtures, "environment-user.ts"), cache, "2026.8.0", python];
  const user = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
  const exit = once(user, "exit");
  const [line] = (await once(user.stdout, "data")) as [Buffer];
  await build(environments(1), "2026.9.0");
  expect((await stat(line.toString().trim())).isFile()).toBe(true);
  user.kill("SIGKILL");
  await exit;
  await build(environments(1), "2026.10.0");
  expect(await environments().ready()).toEqual(["2026.10.0"]);
});

test("a process that is told no number takes no environment away", async () => {
  for (const version of ["2026.8.0", "2026.9.0", "2026.10.0"]) await build(environments(), version);
  expect(await environments().ready()).toHaveLength(3);
});

test("what was hidden when its remover was killed is shown again, and what was half deleted goes with the next one made", async () => {
  const first = await build(environments(), "2026.8.0");
  await rename(join(folderOf("2026.8.0"), "ready.json"), join(folderOf("2026.8.0"), "hidden.json"));
  expect(await environments().ready()).toEqual([]);
  expect(await build(environments(), "2026.8.0")).toBe(first);
  await mkdir(join(folderOf("2026.7.0"), "env-half"), { recursive: true });
  await build(environments(), "2026.9.0");
  expect(await filesOf("2026.7.0")).toEqual([]);
  expect(await environments().ready()).toEqual(["2026.8.0", "2026.9.0"]);
});

test("a mark of use goes with its user, and an old one of a killed process with the next user", async () => {
  const users = join(home.path, "users");
  const mark = await markUse(users, systemClock);
  expect(await isInUse(users, systemClock)).toBe(true);
  await mark[Symbol.asyncDispose]();
  expect(await isInUse(users, systemClock)).toBe(false);
  for (const name of ["old", "young"]) await mkdir(join(users, name));
  await utimes(join(users, "old"), 0, 0);
  await using _next = await markUse(users, systemClock);
  expect(await readdir(users)).toHaveLength(2);
  expect(await readdir(users)).toContain("young");
});
