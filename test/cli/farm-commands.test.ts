/** What steers agents and placement, and what the farm keeps, by the command line against a real server and coordinator. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { CliFarm, jsonLines } from "#test/support/cli-farm.ts";

let farm: CliFarm;

beforeAll(async () => {
  farm = await CliFarm.start();
  await farm.fakeEsphome();
  farm.work.flashes.resolve();
});
afterAll(() => farm[Symbol.asyncDispose]());

const write = (name: string, ...more: readonly string[]) => farm.configuration(name, "wifi:", ...more);

const builtFor = (name: string) =>
  farm.work.given.filter(({ job, configuration }) => job === "compile" && configuration === name).length;

test("a drained agent gets nothing until it is undrained, and the table and explain say so", async () => {
  const drained = await farm.within("drain", "build-1");
  expect([drained.out, drained.code]).toEqual(["build-1 gets nothing new, and has nothing left\n", 0]);
  expect((await farm.within("agents")).out).toMatch(/build-1 +compile +drained/);
  const file = await write("patient");
  const detached = await farm.within("build", file, "--detach");
  expect(detached.err).toMatch(/no compile agent is given work: all are drained; the jobs wait until one is/);
  expect((await farm.within("explain", "patient")).out).toMatch(/build-1 is drained/);
  expect(builtFor("patient")).toBe(0);
  expect((await farm.within("undrain", "build-1", "--json")).out).toBe(
    '{"kind":"drained","agent":"build-1","isDrained":false,"busy":0}\n',
  );
  expect((await farm.within("logs", "patient", "-f")).code).toBe(0);
  expect(builtFor("patient")).toBe(1);
});

test("an agent that is not there cannot be drained", async () => {
  const cli = await farm.within("drain", "nobody");
  expect([cli.err, cli.code]).toEqual(["flashyard: no agent is called nobody; `flashyard agents` lists them\n", 2]);
});

test("what has been built is not built again for an equal request, unless it is asked for", async () => {
  const file = await write("twice");
  expect((await farm.within("build", file)).code).toBe(0);
  const first = (await farm.chain("twice")).id;
  await untilKept("twice");
  const again = await farm.within("build", file);
  expect(again.out).toMatch(new RegExp(`twice +compile +succeeded: firmware.ota.bin, .*, as ${first} had built it`));
  expect(builtFor("twice")).toBe(1);
  expect((await farm.within("build", file, "--rebuild")).code).toBe(0);
  expect(builtFor("twice")).toBe(2);
});

/** Until the farm would use the build of a configuration again. */
async function untilKept(name: string): Promise<void> {
  const kept = await poll(systemClock, { everyMs: 20, withinMs: 10_000 }, async () =>
    (await farm.within("cache", "ls")).out.includes(name) ? true : undefined,
  );
  if (kept === undefined) throw new Error(`no build of ${name} is kept`);
}

test("the cache says what it holds, and is pruned of what is older", async () => {
  await farm.within("build", await write("kept"));
  await untilKept("kept");
  const list = await farm.within("cache", "ls");
  expect(list.out).toMatch(/^CONFIGURATION +TOOL +PLATFORM/);
  expect(list.out).toMatch(/kept +succeed unknown +esp32 .* build-1 /);
  const stats = jsonLines((await farm.within("cache", "stats", "--json")).out)[0];
  expect(stats).toMatchObject({
    builds: expect.any(Number),
    artifacts: { objects: 1 },
    agents: [{ agent: "build-1" }],
  });
  expect((await farm.within("cache", "stats")).out).toMatch(/artifacts in the farm: +1, /);
  const kept = await farm.within("cache", "prune", "--json");
  expect(jsonLines(kept.out)).toEqual([{ kind: "pruned", builds: 0, objects: 0, bytes: 0 }]);
  const pruned = await farm.within("cache", "prune", "--older-than", "0h");
  expect(pruned.out).toMatch(/^forgot \d builds?, deleted 0 objects/);
  expect((await farm.within("cache", "ls")).out).toMatch(/^no build is kept/);
  expect((await farm.within("cache", "prune", "--older-than", "soon")).code).toBe(2);
});

test("one file is interactive, several are a bulk, and --priority says otherwise", async () => {
  const [one, two] = [await write("one"), await write("two")];
  await farm.within("build", one);
  expect((await farm.chain("one")).priority).toBe("interactive");
  await farm.within("build", one, two, "--rebuild");
  expect((await farm.chain("two")).priority).toBe("bulk");
  await farm.within("build", one, two, "--rebuild", "--priority", "urgent");
  expect((await farm.chain("two")).priority).toBe("urgent");
  expect((await farm.within("build", one, "--priority", "yesterday")).code).toBe(2);
});

test("a configuration says where it is built and flashed and by which medium; the command line says so for once", async () => {
  const settings = [".flashyard:", "  flash-on: flash-1", "  build-labels: fast", "  medium: thread:hall"];
  const file = await write("attic", ...settings);
  const cli = await farm.within("install", file, "--detach");
  expect(cli.err).toMatch(/no compile agent that carries fast is online \(there is build-1\): the job waits for it/);
  const chain = await farm.chain("attic");
  expect(chain.compile?.route).toEqual({ labels: ["fast"] });
  expect(chain.compile?.spec).toMatchObject({ platform: "esp32" });
  expect(chain.upload?.spec).toMatchObject({ on: "flash-1", target: { medium: { kind: "thread", segment: "hall" } } });
  expect((await farm.within("explain", "attic")).out).toMatch(/build-1 does not carry .*fast/);
  await farm.within("cancel", "attic");
  const named = await farm.within("install", await write("cellar"), "--build-on", "build-7", "--detach");
  expect(named.err).toMatch(/no compile agent called build-7 is online/);
  expect((await farm.chain("cellar")).compile?.route).toEqual({ on: "build-7", labels: [] });
  expect((await farm.chain("cellar")).upload?.spec.target).toMatchObject({ medium: { kind: "wifi" } });
  await farm.within("cancel", "cellar");
});

test("settings that cannot be used refuse their file and no other", async () => {
  const [bad, good] = [await write("bad", ".flashyard:", "  esphome: tomorrow"), await write("good")];
  const cli = await farm.within("build", bad, good);
  expect(cli.code).toBe(2);
  expect(cli.err).toMatch(/\/bad.yaml: .flashyard: `esphome` cannot be used: a release looks like/);
  expect(cli.err.match(/bad.yaml/g)).toHaveLength(1);
  expect(cli.out).toMatch(/good +compile +succeeded/);
});

test("a release is resolved to what the farm has, and debug symbols are kept on demand", async () => {
  await farm.within("build", await write("release", ".flashyard:", "  esphome: 2026.10"), "--debug");
  expect((await farm.chain("release")).compile?.spec).toMatchObject({ version: "2026.10.0", keepsDebug: true });
});
