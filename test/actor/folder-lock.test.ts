import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fixture = join(import.meta.dirname, "../fixtures/lock-holder.ts");
const children: ChildProcess[] = [];
let home: TemporaryFolder;
let folder: string;

beforeEach(async () => {
  home = await temporaryFolder();
  folder = join(home.path, "lock");
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await home[Symbol.asyncDispose]();
});

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [fixture, folder, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

async function startHolder(): Promise<ChildProcess> {
  const child = start("hold");
  await once(createInterface({ input: child.stdout! }), "line");
  return child;
}

test("a lock that is released is free at once, and again", async () => {
  for (let i = 0; i < 3; i++) {
    await using lock = await lockFolder(folder, { clock: systemClock });
    expect(lock).toBeDefined();
  }
});

test("whoever waits gets the lock when its holder is killed, and hears once whom it waited for", async () => {
  const holder = await startHolder();
  const heard: number[] = [];
  const waiting = lockFolder(folder, {
    clock: systemClock,
    onWait: (pid) => {
      heard.push(pid);
      holder.kill("SIGKILL");
    },
  });
  await using lock = await waiting;
  expect(lock).toBeDefined();
  expect(heard).toEqual([holder.pid]);
});

test("waiting ends without the lock when the signal fires", async () => {
  await startHolder();
  const abort = new AbortController();
  expect(
    await lockFolder(folder, { clock: systemClock, signal: abort.signal, onWait: () => abort.abort() }),
  ).toBeUndefined();
});

test("processes that fight for the lock never hold it at the same time", async () => {
  const file = join(home.path, "count");
  const fighters = [start("count", file, "40"), start("count", file, "40"), start("count", file, "40")];
  const codes = await Promise.all(fighters.map(async (child) => ((await once(child, "exit")) as [number])[0]));
  expect(codes).toEqual([0, 0, 0]);
  expect(await readFile(file, "utf8")).toBe("120");
});

test("a holder of another container or machine counts while it touches its ticket, and no longer", async () => {
  await mkdir(folder);
  const ticket = join(folder, "7");
  await writeFile(ticket, JSON.stringify({ pid: 1, startTime: "1", world: "elsewhere" }));
  const abort = new AbortController();
  const whileTouched = lockFolder(folder, { clock: systemClock, signal: abort.signal, onWait: () => abort.abort() });
  expect(await whileTouched).toBeUndefined();
  const longAgo = new Date(Date.now() - 31_000);
  await utimes(ticket, longAgo, longAgo);
  await using lock = await lockFolder(folder, { clock: systemClock });
  expect(lock).toBeDefined();
});

test("a process id that was given to somebody else does not keep the lock", async () => {
  const holder = await startHolder();
  const ticket = JSON.parse(await readFile(join(folder, "1"), "utf8")) as object;
  await writeFile(join(folder, "1"), JSON.stringify({ ...ticket, startTime: "1" }));
  await using lock = await lockFolder(folder, { clock: systemClock });
  expect(lock).toBeDefined();
  expect(holder.exitCode).toBeNull();
});
