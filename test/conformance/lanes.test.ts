import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import type { Delivery } from "#actor/lane-worker.ts";
import type { StopOrder } from "#protocol/messages.ts";
import { type ConformanceWorld, worlds } from "#test/conformance/conformance-world.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { agentNamed, chainNumber } from "#test/support/farm-builders.ts";
import { compileDispatch } from "#test/support/lane-bench.ts";

const agent = agentNamed("builder");
/** Twice the time after which a delivery that was not acknowledged comes again. */
const redeliveredMs = 20_000;

describe.each(worlds)("the lanes %s", (_name, start) => {
  let world: ConformanceWorld;
  let ports: CoordinatorPorts;
  let stopping: AbortController;
  let pulling: Promise<void>[];

  beforeEach(async () => {
    world = await start();
    ports = await world.ports();
    stopping = new AbortController();
    pulling = [];
  });
  afterEach(async () => {
    stopping.abort();
    await Promise.all(pulling);
    await world[Symbol.asyncDispose]();
  });

  async function pull(slots: number): Promise<Arrivals<Delivery>> {
    const arrivals = new Arrivals<Delivery>("delivery");
    const source = await world.lane(agent, slots);
    pulling.push(
      (async () => {
        for await (const delivery of source.pull(stopping.signal)) arrivals.push(delivery);
      })(),
    );
    return arrivals;
  }

  /** Whatever would have come has come. */
  async function settle(): Promise<void> {
    for (let i = 0; i < 10; i++) await ports.flush();
  }

  const chainsIn = ({ all }: Arrivals<Delivery>) => all.map(({ dispatch }) => dispatch.chain);

  test("what was dispatched is delivered as it was, also when nobody pulled yet", async () => {
    await ports.dispatch(agent, compileDispatch(1));
    const arrivals = await pull(1);
    expect((await arrivals.next()).dispatch).toEqual(compileDispatch(1));
  });

  test("the same assignment dispatched twice comes once, the next attempt of it once more", async () => {
    const arrivals = await pull(5);
    for (const dispatch of [compileDispatch(1), compileDispatch(1), compileDispatch(1, 2)])
      await ports.dispatch(agent, dispatch);
    await arrivals.next(({ dispatch }) => dispatch.attempt === 2);
    await settle();
    expect(arrivals.all).toHaveLength(2);
  });

  test("no more is in hand than there are slots; what is done makes room", async () => {
    const arrivals = await pull(2);
    for (const n of [1, 2, 3]) await ports.dispatch(agent, compileDispatch(n));
    const first = await arrivals.next();
    await arrivals.next();
    await settle();
    expect(chainsIn(arrivals)).toEqual([1, 2].map(chainNumber));
    first.done();
    expect((await arrivals.next()).dispatch.chain).toBe(chainNumber(3));
  });

  test("an agent gets nothing of another one's lane", async () => {
    const arrivals = await pull(2);
    await ports.dispatch(agentNamed("other"), compileDispatch(1));
    await ports.dispatch(agent, compileDispatch(2));
    expect((await arrivals.next()).dispatch.chain).toBe(chainNumber(2));
    expect(arrivals.all).toHaveLength(1);
  });

  test("what was delivered and never acknowledged comes again; what was acknowledged does not", async () => {
    const arrivals = await pull(2);
    for (const n of [1, 2]) await ports.dispatch(agent, compileDispatch(n));
    (await arrivals.next(({ dispatch }) => dispatch.chain === chainNumber(1))).done();
    await vi.waitFor(() => expect(arrivals.all.length).toBeGreaterThan(2), redeliveredMs);
    expect(chainsIn(arrivals).slice(0, 3)).toEqual([1, 2, 2].map(chainNumber));
  });

  test("a stop order reaches its agent alone", async () => {
    const orders = new Arrivals<StopOrder>("stop order");
    const others = new Arrivals<StopOrder>("stop order");
    const listening = [
      (await world.lane(agent, 1)).onStop(orders.push),
      (await world.lane(agentNamed("other"), 1)).onStop(others.push),
    ];
    await settle();
    const order: StopOrder = { v: 1, chain: chainNumber(1), job: "compile", attempt: 1 };
    // Repeated, because a subscription of another process may not be known yet.
    await vi.waitFor(() => {
      ports.stop(agent, order);
      expect(orders.all).toContainEqual(order);
    });
    expect(others.all).toEqual([]);
    for (const one of listening) one.stop();
  });
});
