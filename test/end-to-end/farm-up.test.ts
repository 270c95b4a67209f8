/** `flashyard up` as a user starts it: what it refuses, and what becomes of the work when it is killed with -9. */
import { readdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { isRunning, runningIn, runningWith } from "#test/support/process-table.ts";
import { RealFarm } from "#test/support/real-farm.ts";

/** Children look twice a second whether their parent is there, and a build is ended within two seconds. */
const orphansMsMax = 15_000;

let farm: RealFarm;

beforeEach(async () => {
  farm = await RealFarm.open();
});
afterEach(() => farm[Symbol.asyncDispose]());

/** Everything of the farm that runs, devices and proxies aside. */
function members(): readonly string[] {
  const isMember = /nats-server|coordinator\/main|agent\/main|esphome/;
  return runningWith([farm.home, farm.url]).filter((process) => isMember.test(process));
}

test("killed with -9, `up` takes all but the server with it, and the next one ends that and goes on with the work", async () => {
  const lamp = await farm.device("lamp");
  const first = farm.up();
  await first.prints(/Ctrl-C ends the farm/);
  const follower = await farm.install(lamp, { edition: 1 });
  await follower.event({ kind: "progress", job: "compile", phase: "compiling" });
  const before = members();
  expect(before.some((process) => process.includes("esphome"))).toBe(true);
  first.child.kill("SIGKILL");
  await first.end();

  const limits = { everyMs: 50, withinMs: orphansMsMax };
  await poll(systemClock, limits, () => (members().length === 1 ? true : undefined));
  expect(members()).toEqual([expect.stringContaining("nats-server") as string]);
  expect(runningIn(join(farm.home, "agents"))).toEqual([]);
  const leftServer = Number(members()[0]?.split(" ")[0]);

  const second = farm.up();
  await second.prints(/Ctrl-C ends the farm/);
  expect(isRunning(leftServer)).toBe(false);
  expect(await follower.end()).toMatchObject({ code: 0 });
  expect(await lamp.runs()).toBe(1);
  expect(lamp.flashes()).toMatchObject([{ committed: true, imageDigest: await lamp.flashDigest() }]);

  second.child.kill("SIGINT");
  expect(await second.end()).toMatchObject({ code: 0 });
  expect(members()).toEqual([]);
});

/** It ended at once, said why, and left no process and no notes of any. */
async function expectRefused(up: ReturnType<RealFarm["up"]>, code: number, words: readonly RegExp[]): Promise<void> {
  const end = await up.end();
  expect(end).toMatchObject({ code, out: "" });
  for (const word of words) expect(end.err).toMatch(word);
  expect(end.err).not.toMatch(/bug in flashyard|\n {4}at /);
  expect(members()).toEqual([]);
  expect(await readdir(join(farm.home, "processes")).catch(() => [])).toEqual([]);
}

test("a nats-server that is too old is refused with its version and the one that is needed", async () => {
  const old = join(farm.folder, "nats-server");
  await writeFile(old, "#!/bin/sh\necho 'nats-server: v2.9.10'\n", { mode: 0o755 });
  const words = [/nats-server 2\.9\.10/, /2\.14\.4 or newer/, /FLASHYARD_NATS_SERVER/];
  await expectRefused(farm.up([], { FLASHYARD_NATS_SERVER: old }), 2, words);
});

test("a port that is taken is refused by its number", async () => {
  const server = createServer().listen(farm.port, "127.0.0.1");
  await once(server, "listening");
  try {
    const words = [new RegExp(`port ${farm.port} .*is taken`), /choose another/];
    await expectRefused(farm.up(), 2, words);
  } finally {
    server.close();
    await once(server, "close");
  }
});

test("a home that another farm uses is refused, and that farm goes on", async () => {
  const first = farm.up();
  await first.prints(/Ctrl-C ends the farm/);
  const end = await farm.up(["--port", "1"]).end();
  expect(end).toMatchObject({ code: 2, err: expect.stringMatching(/another farm \(process \d+\) runs in/) as string });
  expect(end.err).toContain(`process ${first.child.pid}`);
  expect(await farm.run("agents")).toMatchObject({ code: 0, out: expect.stringMatching(/online[^]*online/) as string });
  first.child.kill("SIGTERM");
  expect(await first.end()).toMatchObject({ code: 0 });
});
