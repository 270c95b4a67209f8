import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { endGroup, GroupLedger, isGroupAlive } from "#actor/process-group.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fixture = join(import.meta.dirname, "../fixtures/killed-parent.ts");
const children: ChildProcess[] = [];
let home: TemporaryFolder;
let folder: string;

beforeEach(async () => {
  home = await temporaryFolder();
  folder = join(home.path, "groups");
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await home[Symbol.asyncDispose]();
});

function start(argv: readonly [string, ...string[]], detached: boolean): ChildProcess {
  const [file, ...args] = argv;
  const child = spawn(file, args, { detached, stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

test("what a killed predecessor left is ended, whole group, and its note is gone", async () => {
  const parent = start([process.execPath, fixture, folder], false);
  const [line] = (await once(createInterface({ input: parent.stdout! }), "line")) as [string];
  const pid = Number(line);
  parent.kill("SIGKILL");
  await once(parent, "exit");
  expect(isGroupAlive(pid)).toBe(true);
  expect(await readdir(folder)).toEqual([String(pid)]);

  expect(await new GroupLedger(folder).endLeftovers(systemClock)).toEqual([]);
  expect(isGroupAlive(pid)).toBe(false);
  expect(await readdir(folder)).toEqual([]);
});

test("a guarded group dies with a parent that was killed with -9, whole and at once", async () => {
  const parent = start([process.execPath, fixture, folder, "guarding"], false);
  const [line] = (await once(createInterface({ input: parent.stdout! }), "line")) as [string];
  parent.kill("SIGKILL");
  const gone = await poll(systemClock, { everyMs: 10, withinMs: 5_000 }, () =>
    isGroupAlive(Number(line)) ? undefined : true,
  );
  expect(gone).toBe(true);
});

test("a grandchild with a process group of its own, as ninja gives one to each compiler, dies with the group", async () => {
  const abort = new AbortController();
  const started = Promise.withResolvers<number>();
  const running = runProcess({
    // Job control puts what runs in the background into a group of its own; the leader does not pass any signal on.
    argv: ["bash", "-c", "set -m; trap 'exit 0' TERM; sleep 600 & echo $!; while :; do sleep 0.01; done"],
    env: plainEnvironment(),
    signal: abort.signal,
    onLine: (line) => started.resolve(Number(line)),
  });
  const grandchild = await started.promise;
  expect(isGroupAlive(grandchild)).toBe(true);
  abort.abort();
  expect(await running).toMatchObject({ end: { kind: "aborted" }, allGone: true });
  expect(isGroupAlive(grandchild)).toBe(false);
});

test("a process that was given a noted pid later is left alone", async () => {
  const stranger = start(["sleep", "600"], true);
  const ledger = new GroupLedger(folder);
  await ledger.note(stranger.pid!);
  const note = join(folder, String(stranger.pid));
  await writeFile(note, String(Number(await readFile(note, "utf8")) - 1));

  expect(await ledger.endLeftovers(systemClock)).toEqual([]);
  expect(isGroupAlive(stranger.pid!)).toBe(true);
  expect(await readdir(folder)).toEqual([]);
});

test("a group is noted while it runs and forgotten when it has ended", async () => {
  const ledger = new GroupLedger(folder);
  const notes: string[] = [];
  const script = `until [ -s ${folder}/$$ ]; do sleep 0.01; done; ls ${folder}; echo $$`;
  await runProcess({
    argv: ["sh", "-c", script],
    env: plainEnvironment(),
    ledger,
    onLine: (line) => notes.push(line),
  });
  expect(notes[0]).toBe(notes[1]);
  expect(await readdir(folder)).toEqual([]);
});

test("without notes there is nothing to end", async () => {
  expect(await new GroupLedger(join(home.path, "nowhere")).endLeftovers(systemClock)).toEqual([]);
});

test("a group that listens to SIGTERM is not killed, and one that is gone already counts as ended", async () => {
  const polite = start(["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"], true);
  await once(polite.stdout!, "data");
  const exit = once(polite, "exit");
  expect(await endGroup(systemClock, polite.pid!, 10_000)).toBe(true);
  expect(await exit).toEqual([7, null]);
  expect(await endGroup(systemClock, polite.pid!, 10_000)).toBe(true);
});
