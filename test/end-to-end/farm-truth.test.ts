/** What the farm says of devices is what they say themselves, a minute later as well; with ESPHome's own firmware. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import { RealFarm } from "#test/support/real-farm.ts";

let farm: RealFarm;
let lamp: RealDevice;
let fan: RealDevice;
let meter: RealDevice;

beforeAll(async () => {
  farm = await RealFarm.start({ compile: 1 });
  lamp = await farm.device("lamp");
  fan = await farm.device("fan");
  meter = await farm.device("meter");
});
afterAll(() => farm[Symbol.asyncDispose]());

async function untilPrinted(pattern: RegExp, ...args: readonly string[]): Promise<string> {
  const seen = await poll(systemClock, { everyMs: 100, withinMs: 60_000 }, async () => {
    const { out } = await farm.run(...args);
    return pattern.test(out) ? out : undefined;
  });
  if (seen === undefined) throw new Error(`${args.join(" ")} never printed ${String(pattern)}`);
  return seen;
}

describe("a device that was flashed", () => {
  test("is confirmed when it still runs the build", async () => {
    const file = await farm.write(lamp, { edition: 1 });
    const end = await farm.run("install", file, "--device", lamp.address, "--confirm", "--confirm-after", "1");
    expect([end.code, end.out]).toEqual([0, expect.stringMatching(/lamp +confirm +succeeded/)]);
    expect(await lamp.runs()).toBe(1);
    expect((await farm.run("devices")).out).toMatch(/^lamp .*confirmed/m);
  });

  test("and went back to the build before is found out, and `rollback` flashes what it ran well", async () => {
    const before = await lamp.image();
    const file = await farm.write(lamp, { edition: 2 });
    const cli = farm.cli(["install", file, "--device", lamp.address, "--confirm", "--confirm-after", "4", "--json"]);
    await cli.event({ kind: "job", job: "upload", state: "succeeded" });
    expect(await lamp.runs()).toBe(2);
    await lamp.goBackTo(before);
    expect((await cli.end()).code).toBe(1);
    expect(cli.last("confirm")).toMatchObject({ state: "failed", outcome: { failure: { kind: "rolled-back" } } });
    await untilPrinted(/^lamp .*rolled/m, "devices");

    const flashes = lamp.flashes().length;
    const again = await farm.run("install", file, "--device", lamp.address);
    expect([again.code, await lamp.runs()]).toEqual([0, 2]);
    expect(lamp.flashes()).toHaveLength(flashes + 1);
    const back = await farm.run("rollback", file, "--device", lamp.address);
    expect([back.code, await lamp.runs()]).toEqual([0, 1]);
  });
});

describe("a rollout", () => {
  test("that is stopped by its canary has flashed nothing else, and goes on when a person says so", async () => {
    const files = [await farm.write(lamp, { edition: 11 }), await farm.write(fan, { edition: 11 })];
    await lamp.sleep();
    const cli = farm.cli(["install", ...files, "--canary", "1", "--confirm-after", "1"]);
    const id = await poll(systemClock, { everyMs: 50, withinMs: 30_000 }, () => /rollout (\w{16}):/.exec(cli.err)?.[1]);
    const status = await untilPrinted(/has stopped/, "rollout", "status", id ?? "none");
    expect(status).toMatch(/lamp: no device answers/);
    expect(await fan.runs()).toBe(0);
    expect((await farm.run("rollout", "resume", id ?? "none")).code).toBe(0);
    expect((await cli.end()).code).toBe(1);
    expect(await fan.runs()).toBe(11);
    await lamp.wake();
  });
});

describe("a device that sleeps", () => {
  test("is built now and flashed in the moment in which it wakes, also after the farm was away", async () => {
    const file = await farm.write(meter, { edition: 1 });
    await meter.sleep();
    expect((await farm.run("install", file, "--when-online", "--detach")).code).toBe(0);
    await untilPrinted(/waits for a sign of life/, "explain", "meter");
    const before = farm.kill("coordinator");
    await farm.restarted("coordinator", before);
    await untilPrinted(/waits for a sign of life/, "explain", "meter");
    const wokeAt = systemClock.monotonic();
    await meter.wake();
    const seen = await poll(systemClock, { everyMs: 50, withinMs: 30_000 }, () =>
      meter.runs().then(
        (edition) => (edition === 1 ? true : undefined),
        () => undefined,
      ),
    );
    expect(seen).toBe(true);
    process.stdout.write(`flashed ${((systemClock.monotonic() - wokeAt) / 1000).toFixed(1)} s after it woke\n`);
  });
});
