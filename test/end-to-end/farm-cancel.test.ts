/** Cancelling real work: what builds is dead when `flashyard cancel` returns, what flashes goes on to its end. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { runningIn, runningInGroup } from "#test/support/process-table.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import { RealFarm } from "#test/support/real-farm.ts";

let farm: RealFarm;
let lamp: RealDevice;

beforeAll(async () => {
  farm = await RealFarm.start();
  lamp = await farm.device("lamp");
});
afterAll(() => farm[Symbol.asyncDispose]());

/** Until the agent's build runs with a compiler below it. @returns the leader of its process group */
async function compilerRuns(): Promise<number> {
  const found = await poll(systemClock, { everyMs: 10, withinMs: 60_000 }, async () => {
    const groups = await farm.groupsOf("build-1");
    const isCompiling = runningIn(join(farm.home, "agents")).some((process) => process.includes("cc1plus"));
    return isCompiling ? groups[0] : undefined;
  });
  if (found === undefined) throw new Error("no compiler runs");
  return found;
}

test("when the cancel of a chain that builds returns, the whole build is dead, and its upload never starts", async () => {
  const install = await farm.install(lamp, { edition: 1 });
  const { chain } = await install.event({ kind: "job", job: "compile", state: "running" });
  const leader = await compilerRuns();
  expect(runningInGroup(leader).length).toBeGreaterThan(1);

  const cancel = await farm.run("cancel", chain!);
  // Nothing is awaited in between: what runs now has outlived the answer.
  const [group, folder] = [runningInGroup(leader), runningIn(join(farm.home, "agents"))];
  expect({ group, folder }).toEqual({ group: [], folder: [] });
  expect(cancel).toMatchObject({ code: 0, out: expect.stringMatching(/compile +cancelled/) as string });
  expect(await farm.groupsOf("build-1")).toEqual([]);

  expect(await install.end()).toMatchObject({ code: 4 });
  expect(install.last("compile")).toMatchObject({ state: "cancelled", outcome: { cause: "request" } });
  expect(install.last("upload").state).toBe("cancelled");
  expect(
    install.events().filter(({ job, state }) => job === "upload" && state !== "held" && state !== "cancelled"),
  ).toEqual([]);
  expect(lamp.sessions()).toEqual([]);
  expect(await lamp.runs()).toBe(0);
  expect((await farm.run("ps")).out).toMatch(/nothing waits or runs/);
});

test("a cancel that comes while the device is flashed is too late: exit code 1, and the flash goes on to its end", async () => {
  lamp.throttle(60_000);
  const install = await farm.install(lamp, { edition: 2 });
  const { chain } = await install.event({ kind: "progress", job: "upload", phase: "flashing" });
  await lamp.untilSession((session) => session.dataBytes > 0);
  const cancel = await farm.run("cancel", chain!);
  expect(cancel).toMatchObject({
    code: 1,
    out: expect.stringMatching(/the flash has begun.* goes on to its end/) as string,
  });
  expect(lamp.flashes()).toMatchObject([{ committed: false }]);
  lamp.throttle(undefined);
  expect(await install.end()).toMatchObject({ code: 0 });
  expect(await lamp.runs()).toBe(2);
  expect(lamp.flashes()).toMatchObject([{ committed: true, imageDigest: await lamp.flashDigest() }]);
});

test("a chain that has ended is not cancelled any more, and says how it ended", async () => {
  expect(await farm.run("cancel", "lamp")).toMatchObject({
    code: 1,
    out: expect.stringMatching(/had already ended:\n.*succeeded/) as string,
  });
});
