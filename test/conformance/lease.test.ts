import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { poll } from "#actor/clock.ts";
import type { Lease } from "#actor/lease.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { leadTtlMs } from "#protocol/limits.ts";
import { type ConformanceWorld, worlds } from "#test/conformance/conformance-world.ts";
import { bootNumber } from "#test/support/farm-builders.ts";

describe.each(worlds)("the lease %s", (_name, start) => {
  let world: ConformanceWorld;
  let first: Lease;
  let second: Lease;

  beforeEach(async () => {
    world = await start();
    first = await world.lease(bootNumber(1));
    second = await world.lease(bootNumber(2));
  });
  afterEach(async () => {
    await world[Symbol.asyncDispose]();
  });

  test("one has it, and the other sees who", async () => {
    expect(await second.holder()).toBeUndefined();
    expect([await first.take(), await second.take()]).toEqual([true, false]);
    expect(await second.holder()).toMatchObject({ holder: bootNumber(1), host: "here" });
    expect([await first.renew(), await second.renew()]).toEqual([true, false]);
  });

  test("who gives it up leaves it to the other at once, and cannot renew it", async () => {
    await first.take();
    await second.release();
    expect(await second.holder()).toMatchObject({ holder: bootNumber(1) });
    await first.release();
    expect(await second.take()).toBe(true);
    expect(await first.renew()).toBe(false);
  });

  test("who does not renew loses it, and not before its time", async () => {
    const { clock } = world;
    await first.take();
    const renewedAt = clock.monotonic();
    expect(await first.renew()).toBe(true);
    const takeOver = async () => {
      try {
        return (await second.take()) || undefined;
      } catch (error) {
        // In the moment of its end.
        if (!(error instanceof UnavailableError)) throw error;
        return undefined;
      }
    };
    expect(await poll(clock, { everyMs: 50, withinMs: 3 * leadTtlMs }, takeOver)).toBe(true);
    expect(clock.monotonic() - renewedAt).toBeGreaterThanOrEqual(leadTtlMs);
    expect(await first.renew()).toBe(false);
    expect(await first.holder()).toMatchObject({ holder: bootNumber(2) });
  });
});
