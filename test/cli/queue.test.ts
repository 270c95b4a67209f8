/** The commands that steer the queue, against a real server and coordinator; ESPHome and the agents are stand-ins. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { askAdmin } from "#bus/farm-client.ts";
import type { JobState } from "#protocol/job.ts";
import { configurationNamed } from "#test/support/farm-builders.ts";
import { CliFarm, jsonLines } from "#test/support/cli-farm.ts";
import { ScriptedAgent } from "#test/support/scripted-agent.ts";

let farm: CliFarm;
let folder: string;

beforeAll(async () => {
  farm = await CliFarm.start();
  await farm.fakeEsphome();
  farm.work.flashes.resolve();
  folder = join(farm.home.path, "files");
  await mkdir(folder);
});
afterAll(() => farm[Symbol.asyncDispose]());

const write = (name: string, ...more: readonly string[]) => farm.configuration(name, ...more);

/** A folder to build with a command. */
async function sourceOf(name: string): Promise<string> {
  const source = join(farm.home.path, name);
  await mkdir(source, { recursive: true });
  await writeFile(join(source, "main.c"), `int main(void) { return 0; } /* ${name} */`);
  return source;
}

async function build(name: string, word: string, ...options: readonly string[]) {
  return farm.within("build", await sourceOf(name), "--artifact", "*.bin", ...options, "--", word);
}

/** What the agents were given for a configuration since a moment. */
function given(configuration: string, since = 0): readonly string[] {
  const some = farm.work.given.slice(since);
  return some.filter((dispatch) => dispatch.configuration === configuration).map(({ job }) => job);
}

/** Until the coordinator knows of a build tree. */
async function untilWarm(configuration: string): Promise<void> {
  const seen = await poll(systemClock, { everyMs: 20, withinMs: 10_000 }, async () => {
    const answer = await askAdmin(farm.connection, { v: 1, kind: "agents" });
    const agents = answer.kind === "agents" ? answer.agents : [];
    const trees = agents.flatMap(({ announcement }) => announcement.compile?.warm ?? []);
    return trees.some((tree) => tree.configuration === configuration) ? true : undefined;
  });
  if (seen === undefined) throw new Error(`no agent says that it has a tree of ${configuration}`);
}

/** Until the history says how the newest upload of a configuration ended. */
async function untilArchived(name: string, state: JobState): Promise<void> {
  const configuration = configurationNamed(name);
  const seen = await poll(systemClock, { everyMs: 20, withinMs: 10_000 }, async () => {
    const answer = await askAdmin(farm.connection, { v: 1, kind: "history", configuration, isFailed: false, limit: 1 });
    return answer.kind === "chains" && answer.ended[0]?.upload?.state === state ? true : undefined;
  });
  if (seen === undefined) throw new Error(`the history does not say that the upload of ${name} is ${state}`);
}

test("several jobs are cancelled with one command, and a name that is nothing does not stop the others", async () => {
  await build("one", "hang", "--detach");
  await build("two", "hang", "--detach");
  const cli = await farm.within("cancel", "one", "two.compile", "nothing", "one");
  expect(cli.code).toBe(2);
  expect(cli.out).toBe("one  compile  cancelled: on request\ntwo  compile  cancelled: on request\n");
  expect(cli.err).toBe('nothing: no chain, job or configuration is called "nothing"\n');
});

test("--all ends all work and says how much that is", async () => {
  await build("one", "hang", "--detach");
  await build("two", "hang", "--detach");
  const cli = await farm.within("cancel", "--all");
  expect([cli.out.split("\n")[0], cli.code]).toEqual(["cancelling 2 chains", 0]);
  expect(cli.out.match(/cancelled: on request/g)).toHaveLength(2);
  const again = await farm.within("cancel", "--all");
  expect([again.out, again.code]).toEqual(["nothing waits or runs\n", 0]);
  const json = await farm.within("cancel", "--all", "--no-wait", "--json");
  expect(jsonLines(json.out)).toEqual([{ kind: "cancelling", chains: [] }]);
});

test("a clean takes the tree away on each agent that has one, and says so; there is nothing left for a second one", async () => {
  await build("tidy", "succeed");
  await untilWarm("tidy");
  const cli = await farm.within("clean", "tidy.yaml");
  expect([cli.err, cli.code]).toEqual(["", 0]);
  expect(cli.out).toMatch(/tidy {2}clean {4}succeeded in [\d.]+ s on build-1: took 1 build tree away\n$/);
  const explain = await farm.within("explain", "tidy");
  expect(explain.out).toMatch(/\nclean: succeeded on build-1, attempt 1\n/);
  const again = await poll(systemClock, { everyMs: 20, withinMs: 10_000 }, async () => {
    const found = await farm.within("clean", "tidy");
    return found.out.includes("no agent") ? found : undefined;
  });
  expect([again?.out, again?.code]).toEqual(["no agent has a tree of tidy\n", 0]);
});

test("a clean of a configuration that builds ends the build first; with --json it is told line by line", async () => {
  const builder = farm.spawn("build", await sourceOf("busy"), "--artifact", "*.bin", "--", "hang");
  await builder.prints(/running on build-1/);
  const cli = await farm.within("clean", "busy", "--json");
  expect(await builder.code()).toBe(4);
  expect(builder.out).toMatch(/busy {2}compile {2}cancelled: its build tree was taken away\n$/);
  expect(jsonLines(cli.out)[0]).toMatchObject({
    kind: "accepted",
    configuration: "busy",
    superseded: [expect.any(String)],
  });
  expect(jsonLines(cli.out).at(-1)).toMatchObject({
    kind: "summary",
    exitCode: 0,
    chains: [{ jobs: [{ job: "clean", agent: "build-1", outcome: { kind: "cleaned", trees: 1 } }] }],
  });
});

test("a reset ends all work and takes all trees away, and needs --yes where nobody can be asked", async () => {
  await build("kept", "succeed");
  await untilWarm("kept");
  const builder = farm.spawn("build", await sourceOf("busy"), "--artifact", "*.bin", "--", "hang");
  await builder.prints(/running on build-1/);
  const refused = await farm.within("reset");
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("it needs --yes")]);
  expect(builder.child.exitCode).toBeNull();
  const cli = await farm.within("reset", "--yes");
  expect([cli.code, await builder.code()]).toEqual([0, 4]);
  expect(builder.out).toContain("cancelled: the farm was reset");
  expect(cli.err).toContain("1 chain cancelled");
  expect(cli.out).toMatch(/every configuration {2}clean {4}succeeded .* on build-1: took \d+ build trees away\n$/);
  expect((await farm.within("ps", "--all")).out).toMatch(/ \* +clean +succeeded +build-1 /);
});

test("an install that failed at its device is tried again from the upload on, as long as the file is the same", async () => {
  const file = await write("lamp");
  farm.work.moods.set("lamp.local", "refuses");
  expect((await farm.within("install", file)).code).toBe(1);
  const first = (await farm.chain("lamp")).id;
  farm.work.moods.delete("lamp.local");
  const before = farm.work.given.length;
  const cli = await farm.within("retry", "lamp", "--folder", folder);
  expect([cli.code, given("lamp", before)]).toEqual([0, ["upload"]]);
  expect(cli.err).toContain(
    `lamp: unchanged since ${first} built it, so only its upload is run again at lamp.local:3232`,
  );
  expect(await farm.chain("lamp")).toMatchObject({ kind: "upload", upload: { state: "succeeded" } });

  const logs = await Promise.all([farm.within("logs", `${first}.compile`), farm.within("logs", `${first}.upload`)]);
  expect(logs.map(({ out }) => out)).toEqual(["succeed begins\nsucceed ends\n", "asking lamp.local:3232\n"]);
  const done = await farm.within("retry", "lamp", "--folder", folder);
  expect([done.code, done.err]).toEqual([2, expect.stringContaining("has succeeded: use install")]);
});

test("a changed file is built again, and so is a build that failed", async () => {
  const file = await write("fan", "# build: fail");
  expect((await farm.within("install", file, "--device", "10.0.0.9:1234")).code).toBe(1);
  await write("fan", "# build: succeed");
  const before = farm.work.given.length;
  const cli = await farm.within("retry", "fan.compile", "--folder", folder);
  expect([cli.code, given("fan", before)]).toEqual([0, ["compile", "upload"]]);
  expect(cli.err).toContain("fan: built and flashed again at 10.0.0.9:1234");
});

test("--failed runs again what failed last, and says which file is missing for one without stopping the others", async () => {
  expect((await farm.within("install", await write("gone", "# build: fail"))).code).toBe(1);
  expect((await farm.within("install", await write("back", "# build: fail"))).code).toBe(1);
  await build("stubborn", "fail");
  await rm(join(folder, "gone.yaml"));
  await write("back");
  const cli = await farm.within("retry", "--failed", "--folder", folder);
  expect(cli.code).toBe(1);
  expect(cli.err).toContain(`gone: there is no gone.yaml in ${folder}: name its folder with --folder`);
  expect(cli.out).toMatch(/back +upload +succeeded/);
  expect(cli.out).toMatch(/stubborn +compile +failed/);
  expect(cli.out).toMatch(/\n1 done, 1 failed, 1 not sent\n$/);
});

test("a clean and an upload are run again as what they were", async () => {
  const file = await write("desk");
  expect((await farm.within("build", file)).code).toBe(0);
  farm.work.moods.set("desk.local", "refuses");
  expect((await farm.within("upload", file)).code).toBe(1);
  const before = farm.work.given.length;
  expect((await farm.within("retry", "desk", "--folder", folder)).code).toBe(1);
  expect(given("desk", before)).toEqual(["upload"]);
  await write("desk", ".flashyard:", "  medium: pigeon");
  const bad = await farm.within("retry", "desk", "--folder", folder);
  expect([bad.code, bad.err]).toEqual([2, expect.stringMatching(/desk\.yaml: \.flashyard: `medium` cannot be used/)]);
  farm.work.failsCleans = true;
  expect((await farm.within("clean", "desk")).code).toBe(1);
  farm.work.failsCleans = false;
  const again = await farm.within("retry", "desk");
  expect([again.code, again.out]).toEqual([0, expect.stringMatching(/desk {2}clean {4}succeeded .*1 build tree/)]);
});

test("the history is told newest first, and can be narrowed", async () => {
  const all = await farm.within("history", "-n", "3");
  expect(all.out.split("\n")[0]).toMatch(/^WHEN +CHAIN +CONFIGURATION +KIND +JOBS +TOOK +AGENTS/);
  expect(all.out.trimEnd().split("\n")).toHaveLength(4);
  const lamp = await farm.within("history", "lamp.yaml");
  expect(lamp.out).toMatch(
    / lamp +upload +upload succeeded, confirm held .*\n.* lamp +install +compile succeeded, upload failed +.* build-1 flash-1 +.* refused this uploader/,
  );
  const failed = await farm.within("history", "lamp", "--failed", "--json");
  expect(jsonLines(failed.out)).toMatchObject([
    { kind: "install", exitCode: 1, jobs: [{ job: "compile" }, { job: "upload" }, { job: "confirm" }] },
  ]);
  expect((await farm.within("history", "nobody")).out).toBe("nothing has ended yet of nobody\n");
});

test("a person settles an upload of which nobody knew how it ended, once", async () => {
  farm.work.moods.set("porch.local", "silent");
  expect((await farm.within("install", await write("porch"))).code).toBe(3);
  const settled = await farm.within("device", "resolve", "porch.yaml", "--running");
  expect(settled.code).toBe(0);
  expect(settled.out).toMatch(/^porch: noted, the upload of \w{16} succeeded .*: it runs this build, says a person\n$/);
  expect((await farm.chain("porch")).upload).toMatchObject({ state: "succeeded", outcome: { level: "told" } });
  await untilArchived("porch", "succeeded");
  const again = await farm.within("device", "resolve", "porch", "--not-running");
  expect([again.code, again.err]).toEqual([2, expect.stringContaining("in an unknown state")]);
});

test("of many files the ones that cannot be used are listed, and the others are installed", async () => {
  const place = join(farm.home.path, "many");
  await mkdir(place);
  const text = (name: string) => `esphome:\n  name: ${name}\nesp32:\nota:\n  - platform: esphome\n`;
  await writeFile(join(place, "good.yaml"), text("good"));
  await writeFile(join(place, "odd.yaml"), `${text("odd")}nonsense: 1\n`);
  await writeFile(join(place, "wired.yaml"), "esphome:\n  name: wired\nesp32:\n");
  const cli = await farm.within("install", "--all", "--folder", place);
  expect(cli.code).toBe(2);
  expect(cli.err).toMatch(/odd.yaml: ESPHome refused the configuration .*\n {4}\| \[nonsense\]/);
  expect(cli.err).toMatch(/wired.yaml: it cannot be flashed over the air/);
  expect(cli.out).toMatch(/good {2}upload {3}succeeded .*\n1 done, 2 not sent\n$/);
});

test("a build machine that is away keeps its tree, which is said and is no failure", async () => {
  const away = new ScriptedAgent(farm.connection, "compile", "build-2", { warm: ["shy"] });
  await untilWarm("shy");
  await away[Symbol.asyncDispose]();
  const cli = await poll(systemClock, { everyMs: 50, withinMs: 20_000 }, async () => {
    const { out } = await farm.within("agents");
    return /build-2 +compile +away/.test(out) ? farm.within("clean", "shy") : undefined;
  });
  expect([cli?.out, cli?.err, cli?.code]).toEqual([
    "no agent that is here has a tree of shy\n",
    "build-2 is away and keeps its tree of shy\n",
    0,
  ]);
});

test("wrong use is said in one line", async () => {
  const cases: readonly (readonly [readonly string[], string])[] = [
    [["cancel"], "name the jobs to cancel, or say --all"],
    [["cancel", "lamp", "--all"], "name the jobs to cancel, or say --all"],
    [["clean", "*"], "`flashyard reset` is for all of them"],
    [["reset"], "it needs --yes"],
    [["retry", "nothing"], 'is called "nothing"'],
    [["retry"], "or say --failed"],
    [["retry", "lamp", "--failed"], "or say --failed"],
    [["retry", "a", "b", "--device", "10.0.0.1"], "name one with it"],
    [["drain", "No Agent"], 'drain "No Agent": no agent can have this name'],
    [["undrain", "No Agent"], 'undrain "No Agent": no agent can have this name'],
    [["build", "lamp.yaml", "--on", "No Agent"], '--on "No Agent": no agent can have this name'],
    [["install", "lamp.yaml", "--build-on", "No Agent"], '--build-on "No Agent": no agent can have this name'],
    [["install", "lamp.yaml", "--on", "No Agent"], '--on "No Agent": no agent can have this name'],
    [
      ["flash", "a", "--serial", "b", "--flasher", "picotool", "--baud", "921600"],
      "--baud 921600 does nothing with --flasher",
    ],
    [["flash", "a", "--serial", "b", "--chip", "esp32", "--baud", "300"], "esptool takes 9600 to 5000000"],
    [
      ["flash", "a", "--serial", "b", "--avrdude", "m328p:arduino", "--baud", "3000000"],
      "avrdude takes 300 to 2000000",
    ],
    // Nothing is wrong with these rates: what is missing is the build.
    [
      ["flash", "nothing", "--serial", "b", "--chip", "esp32", "--baud", "1500000"],
      'no build of "nothing" has succeeded yet',
    ],
    [
      ["flash", "nothing", "--serial", "b", "--avrdude", "m328p:arduino", "--baud", "2000000"],
      'no build of "nothing" has succeeded yet',
    ],
    [["history", "*"], "`flashyard reset` is for all of them"],
    [["device", "resolve", "lamp"], "say --running or --not-running"],
    [["device", "resolve", "lamp", "--running", "--not-running"], "say --running or --not-running"],
    [["device", "resolve", "nobody", "--running"], "has left its device in an unknown state"],
  ];
  for (const [args, words] of cases) {
    const { code, out, err } = await farm.within(...args);
    expect({ args, code, out, said: err.includes(words) ? words : err }).toEqual({
      args,
      code: 2,
      out: "",
      said: words,
    });
  }
});
