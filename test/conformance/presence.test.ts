import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Announcement } from "#protocol/agent.ts";
import { type ConformanceWorld, worlds } from "#test/conformance/conformance-world.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { statementOf } from "#test/support/farm-builders.ts";

describe.each(worlds)("the presence %s", (_name, start) => {
  let world: ConformanceWorld;
  let stopping: AbortController;

  beforeEach(async () => {
    world = await start();
    stopping = new AbortController();
  });
  afterEach(async () => {
    stopping.abort();
    await world[Symbol.asyncDispose]();
  });

  async function watch(): Promise<{ heard: Arrivals<Announcement>; watching: Promise<void> }> {
    const heard = new Arrivals<Announcement>("statement");
    const ports = await world.ports();
    return { heard, watching: ports.watchPresence(stopping.signal, heard.push) };
  }

  test("who comes later hears what the agents have said, and then whatever they say", async () => {
    const announce = await world.announcer();
    const first = await watch();
    announce(statementOf("a", "compile"));
    await first.heard.next(({ agent }) => agent === "a");
    const second = await watch();
    expect(await second.heard.next()).toEqual(statementOf("a", "compile"));
    announce(statementOf("b", "upload"));
    for (const { heard } of [first, second]) expect(await heard.next()).toEqual(statementOf("b", "upload"));
  });

  test("a watch ends with its signal", async () => {
    const { watching } = await watch();
    stopping.abort();
    await watching;
    const { watching: late } = await watch();
    await late;
  });
});
