import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Shelf } from "#actor/coordinator-ports.ts";
import { startChain } from "#coordinator/core/chains.ts";
import type { Chain } from "#protocol/chain.ts";
import { type ConformanceWorld, worlds } from "#test/conformance/conformance-world.ts";
import { buildRequest, chainNumber, startAt } from "#test/support/farm-builders.ts";

const chain = (n: number): Chain => startChain(buildRequest(n), startAt);
const values = (...ns: readonly number[]) => new Map(ns.map((n) => [chainNumber(n), chain(n)]));

describe.each(worlds)("the history %s", (_name, start) => {
  let world: ConformanceWorld;
  let history: Shelf<Chain>;
  let other: Shelf<Chain>;

  beforeEach(async () => {
    world = await start();
    history = (await world.ports()).history;
    other = (await world.ports()).history;
  });
  afterEach(async () => {
    await world[Symbol.asyncDispose]();
  });

  const idsOf = (chains: readonly Chain[]) => chains.map(({ id }) => id);

  test("what was put is there for everybody, and nothing else", async () => {
    await history.putAll(values(1, 2));
    expect(await other.get(chainNumber(2))).toEqual(chain(2));
    expect(await other.get(chainNumber(3))).toBeUndefined();
  });

  test("the newest come first, and no more than were asked for", async () => {
    await history.putAll(values(1, 2));
    await history.putAll(values(3));
    expect(idsOf(await other.newest(2))).toEqual([3, 2].map(chainNumber));
    expect(await other.newest(0)).toEqual([]);
    expect(idsOf(await other.all())).toEqual([3, 2, 1].map(chainNumber));
  });

  test("what is put again takes the place of the former value", async () => {
    await history.putAll(values(1, 2));
    const later = { ...chain(2), createdAt: startAt + 1 };
    await history.putAll(new Map([[later.id, later]]));
    expect(await other.get(chainNumber(2))).toEqual(later);
    expect(await other.all()).toEqual([later, chain(1)]);
  });

  test("what was removed is gone, and removing what is not there is no error", async () => {
    await history.putAll(values(1, 2));
    await history.removeAll([chainNumber(1), chainNumber(9)]);
    expect(await other.get(chainNumber(1))).toBeUndefined();
    expect(idsOf(await other.all())).toEqual([chainNumber(2)]);
  });
});
