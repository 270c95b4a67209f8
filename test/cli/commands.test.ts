import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { digestOf } from "#actor/digest.ts";
import { AgentId, type ChainId, chainIdFrom } from "#protocol/ids.ts";
import { CliFarm, runCli } from "#test/support/cli-farm.ts";
import { image } from "#test/support/cli-farm-work.ts";
import { configurationNamed, manifestOfBuild, targetAt } from "#test/support/farm-builders.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

let farm: CliFarm;
beforeAll(async () => {
  farm = await CliFarm.start();
});
afterAll(() => farm[Symbol.asyncDispose]());

/** A folder with something in it to build. */
async function project(name: string): Promise<string> {
  const folder = join(farm.home.path, name);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "main.c"), `int main(void) { return 0; } /* ${name} */`);
  return folder;
}

const build = (folder: string, ...command: readonly string[]) => [
  "build",
  folder,
  "--artifact",
  "*.bin",
  "--",
  ...command,
];

async function liveChainOf(configuration: string): Promise<ChainId> {
  const found = await poll(systemClock, { everyMs: 10, withinMs: 10_000 }, async () => {
    const answer = await askAdmin(farm.connection, { v: 1, kind: "resolve", reference: configuration });
    return answer.kind === "resolved" ? answer.chain.id : undefined;
  });
  if (found === undefined) throw new Error(`there is no chain of ${configuration}`);
  return found;
}

async function untilFlashing(chain: ChainId): Promise<void> {
  const limits = { everyMs: 10, withinMs: 10_000 };
  const seen = await poll(systemClock, limits, async () => {
    const answer = await askAdmin(farm.connection, { v: 1, kind: "resolve", reference: chain });
    return answer.kind === "resolved" && answer.chain.upload?.flashClaim !== undefined ? true : undefined;
  });
  if (seen === undefined) throw new Error("the flash has not begun");
}

test("a build that succeeds is told line by line, and its images are written where they are wanted", async () => {
  const folder = await project("blink");
  const output = join(farm.home.path, "images");
  const cli = await farm.run("build", folder, "--artifact", "*.bin", "-o", output, "--", "succeed");
  expect(cli.err).toContain(`firmware.bin and manifest.json are in ${output}`);
  expect(await cli.code()).toBe(0);
  expect(cli.out).toMatch(
    /^blink {2}compile {2}running on build-1\n(.*compiling\n)?blink {2}compile {2}succeeded in [\d.]+ s: firmware.bin, 9 bytes, for generic\n$/,
  );
  expect(await readFile(join(output, "firmware.bin"))).toEqual(image);
  expect(JSON.parse(await readFile(join(output, "manifest.json"), "utf8"))).toMatchObject({
    images: [{ name: "firmware.bin", digest: digestOf(image) }],
  });
});

test("a build that fails shows the tool's own lines without its control characters, and where the rest is", async () => {
  const cli = await farm.run(...build(await project("broken"), "fail"));
  expect(await cli.code()).toBe(1);
  expect(cli.out).toMatch(/broken {2}compile {2}failed in .* on build-1: the build failed \(exit code 2\)/);
  expect(cli.out).toContain("    | src/main.c:3:1: error: expected ';'\n    | make: *** [all] Error 1\n");
  expect(cli.out).toMatch(/ {4}the whole log: flashyard logs [0-9a-z]{16}\.compile\n$/);
});

test("a job that is cancelled while it runs ends with 4 for its follower and with 0 for who cancels it", async () => {
  const follower = farm.spawn(...build(await project("endless"), "hang"));
  await follower.prints(/running on build-1/);
  const cancel = await farm.run("cancel", "endless");
  expect([cancel.out, await cancel.code()]).toEqual(["endless  compile  cancelled: on request\n", 0]);
  expect(await follower.code()).toBe(4);
  expect(follower.out).toMatch(/endless {2}compile {2}cancelled: on request\n$/);
  const again = await farm.run("cancel", "endless");
  expect(again.out).toContain("had already ended");
  expect(await again.code()).toBe(0);
});

test("with --json every line is an object, and the last one is the summary", async () => {
  const cli = await farm.run("build", await project("json"), "--artifact", "*.bin", "--json", "--", "succeed");
  expect(await cli.code()).toBe(0);
  const lines = cli.json();
  expect(lines[0]).toMatchObject({ kind: "accepted", chains: [{ asked: "build", configuration: "json" }] });
  const states = lines.filter(({ kind }) => kind === "job").map(({ state }) => state);
  expect(states[0]).toBe("dispatched");
  expect(states.at(-1)).toBe("succeeded");
  expect(lines.at(-1)).toMatchObject({ kind: "summary", exitCode: 0, refused: [], chains: [{ exitCode: 0 }] });
});

test("Ctrl-C lets go of a job that goes on, and says how to follow and to cancel it", async () => {
  const cli = farm.spawn(...build(await project("long"), "hang", "a line of the log"));
  await cli.prints(/running on build-1/);
  cli.child.kill("SIGINT");
  expect(await cli.code()).toBe(130);
  const chain = await liveChainOf("long");
  expect(cli.err).toContain(
    `still running; follow with \`flashyard logs ${chain} -f\`, cancel with \`flashyard cancel ${chain}\``,
  );

  const ps = await farm.run("ps");
  expect(ps.out).toMatch(/^CHAIN +CONFIGURATION +JOB +STATE +AGENT +TIME/);
  expect(ps.out).toMatch(new RegExp(`\\n${chain} +long +compile +running +build-1 `));
  const logs = farm.spawn("logs", "long.compile", "-f");
  await logs.prints(/hang begins\na line of the log\n/);
  expect(await (await farm.run("cancel", chain, "--no-wait")).code()).toBe(0);
  expect(await logs.code()).toBe(4);
  expect(logs.out).toBe("hang begins\na line of the log\nhang ends\n");
  expect(logs.err).toContain("compile: cancelled: on request");
});

test("a follower survives a coordinator that is killed", async () => {
  const cli = farm.spawn(...build(await project("steady"), "hang"));
  await cli.prints(/running on build-1/);
  await farm.replaceCoordinator();
  const cancel = await farm.run("cancel", "steady");
  expect([cancel.err, await cancel.code()]).toEqual(["", 0]);
  expect(await cli.code()).toBe(4);
});

test("a follower and its log survive a server that is killed and comes back", async () => {
  const cli = farm.spawn(...build(await project("calm"), "hang"));
  await cli.prints(/running on build-1/);
  const logs = farm.spawn("logs", "calm", "-f");
  await logs.prints(/hang begins/);
  await farm.server.kill();
  await farm.server.restart();
  const cancel = await farm.run("cancel", "calm");
  expect([cancel.err, await cancel.code()]).toEqual(["", 0]);
  expect([await cli.code(), await logs.code()]).toEqual([4, 4]);
  expect(logs.out).toMatch(/^hang begins\n(hang ends\n)?$/);
});

test("--detach prints the chain and returns once it is accepted", async () => {
  const cli = await farm.run("build", await project("later"), "--artifact", "*.bin", "--detach", "--", "succeed");
  expect(await cli.code()).toBe(0);
  expect(cli.out).toMatch(/^[0-9a-z]{16} {2}later\n$/);
  const logs = await farm.run("logs", cli.out.split(" ")[0]!, "-f");
  expect([logs.out, await logs.code()]).toEqual(["succeed begins\nsucceed ends\n", 0]);
});

test("what has ended is found by ps, explain and logs", async () => {
  await farm.run(...build(await project("over"), "fail"));
  const [ps, explain, logs, json] = await Promise.all([
    farm.run("ps", "--all"),
    farm.run("explain", "over"),
    farm.run("logs", "over.compile", "--json"),
    farm.run("explain", "over", "--json"),
  ]);
  expect(ps.out).toMatch(/ over +compile +failed +build-1 +.* the build failed \(exit code 2\)/);
  expect(explain.out).toMatch(/^[0-9a-z]{16}\ncompile: failed on build-1, attempt 1\n {2}the build failed/);
  expect(logs.json().map(({ line }) => line)).toEqual(["fail begins", "fail ends"]);
  expect(json.json()).toMatchObject([{ lines: ["compile: failed on build-1, attempt 1", expect.any(String)] }]);
  const followed = await farm.run("logs", "over", "-f");
  expect([await followed.code(), followed.err]).toEqual([1, expect.stringMatching(/^compile: failed .*exit code 2/)]);
});

test("a flash that has begun is not cancelled: it is too late", async () => {
  const id = chainIdFrom(Date.now(), new Uint8Array(6));
  const manifest = manifestOfBuild("2026-11-25 12:00:00 +0000");
  const upload = { target: { ...targetAt("lamp.local"), password: "hunter2" }, manifest, on: AgentId.parse("flash-1") };
  const configuration = configurationNamed("lamp");
  await askAdmin(farm.connection, { v: 1, kind: "submit", chains: [{ id, kind: "upload", configuration, upload }] });
  await untilFlashing(id);
  const ps = await farm.run("ps", "--json");
  expect(ps.json()).toContainEqual(
    expect.objectContaining({ chain: id, job: "upload", state: "running", agent: "flash-1" }),
  );
  const cancel = await farm.run("cancel", "lamp", "--no-wait");
  expect(await cancel.code()).toBe(1);
  expect(cancel.out).toContain("the flash has begun");
  const logs = farm.spawn("logs", "lamp", "-f", "--json");
  farm.work.flashes.resolve();
  expect(await logs.code()).toBe(0);
  const devices = await farm.run("devices");
  expect(devices.out).toMatch(
    /lamp +lamp.local:3232 +running +2026.10.0 +2026-11-25 12:00:00 \+0000 +AA:BB:CC:DD:EE:FF/,
  );
  for (const { out, err } of [ps, cancel, logs, devices]) expect(out + err).not.toContain("hunter2");
});

test("agents and doctor tell what the farm has", async () => {
  const agents = await farm.run("agents");
  expect(agents.out).toMatch(/^AGENT +LANE +STATE +BUSY/);
  expect(agents.out).toMatch(/\nbuild-1 +compile +online +0 of 4/);
  const doctor = await farm.run("doctor", "--json");
  const checks = Object.fromEntries(doctor.json().map((check) => [check["name"], check]));
  for (const name of ["NATS server", "atomic batches", "coordinator", "clock", "compile agents", "upload agents"]) {
    expect(checks[name]).toMatchObject({ state: "ok" });
  }
  expect(checks["ESPHome"]).toMatchObject({ state: "warning", fix: expect.any(String) });
});

test("what cannot be used is said in one line, and nothing is sent", async () => {
  await using folder = await temporaryFolder();
  const lamp = join(folder.path, "lamp.yaml");
  const other = join(folder.path, "lamp.yml");
  await Promise.all([lamp, other].map((file) => writeFile(file, "esphome:\n  name: lamp\n")));
  const cases: readonly (readonly [readonly string[], string])[] = [
    [["install", join(folder.path, "missing.yaml")], "missing.yaml: there is no such file"],
    [["install", lamp, "--esphome-version", "26.10"], "a release looks like 2026.10.0"],
    [["install", lamp, other], "would both be the configuration lamp"],
    [["install", lamp, lamp], "is named twice"],
    [["install", lamp, "--device", "a b"], "a device is named as lamp.local"],
    [["install", lamp, other, "--device", "10.0.0.1"], "name one file with it"],
    [["install"], "name at least one configuration file"],
    [["install", "--all", "--folder", join(folder.path, "nowhere")], "cannot be read"],
    [["build", folder.path], "a folder is built with a command behind two dashes"],
    [["build", folder.path, "--", "make"], "name what the build makes with --artifact"],
    [["upload", join(folder.path, "missing.yaml")], "there is no such file"],
    [["upload", other, "--from", "0000000000000000"], 'no build of "0000000000000000" has succeeded yet'],
    [["logs", "nothing"], 'no chain, job or configuration is called "nothing"'],
  ];
  const results = await Promise.all(
    cases.map(async ([args, words]) => {
      const { code, out, err } = await farm.within(...args);
      return { args, code, said: err.includes(words) ? words : err, out };
    }),
  );
  expect(results).toEqual(cases.map(([args, words]) => ({ args, code: 2, said: words, out: "" })));
});

test("commands and options that there are not are refused", async () => {
  const clis = await Promise.all([farm.run("bogus"), farm.run("install", "--bogus")]);
  expect(clis.map(({ err }) => err)).toEqual([
    expect.stringContaining("unknown command 'bogus'"),
    expect.stringContaining("unknown option '--bogus'"),
  ]);
  expect([await clis[0]?.code(), await clis[1]?.code()]).toEqual([2, 2]);
});

test("an upload of what was never built is refused", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "shelf.yaml");
  await writeFile(file, "esphome:\n  name: shelf\n");
  const cli = await farm.run("upload", file);
  expect(await cli.code()).toBe(2);
  expect(cli.err).toContain('no build of "shelf" has succeeded yet');
});

test("without a farm every command says how to get one", async () => {
  const url = "nats://someone:secret@127.0.0.1:9";
  for (const command of ["ps", "agents", "devices"]) {
    const cli = await runCli([command, "--server", url]);
    expect(await cli.code()).toBe(5);
    expect(cli.err).toBe(
      "flashyard: no farm answers at nats://127.0.0.1:9 (connection refused): start one with `flashyard up`, or name its server with --server or FLASHYARD_NATS_URL\n",
    );
  }
});

test("version answers at once", async () => {
  const startedAt = performance.now();
  const cli = await runCli(["version", "--json"]);
  console.log(`flashyard version took ${Math.round(performance.now() - startedAt)} ms under load`);
  expect(cli.json()).toMatchObject([{ version: "0.1.0" }]);
  const help = await runCli(["--help"]);
  expect([await help.code(), help.out]).toEqual([0, expect.stringContaining("130  detached by Ctrl-C")]);
});
