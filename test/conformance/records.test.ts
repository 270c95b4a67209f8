import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ChainRecords } from "#actor/coordinator-ports.ts";
import { startChain } from "#coordinator/core/chains.ts";
import type { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { type ConformanceWorld, worlds } from "#test/conformance/conformance-world.ts";
import { buildRequest, chainNumber, startAt } from "#test/support/farm-builders.ts";

const chain = (n: number): Chain => startChain(buildRequest(n), startAt);
const changes = (...ns: readonly number[]) => new Map<ChainId, Chain>(ns.map((n) => [chainNumber(n), chain(n)]));
const removal = (n: number) => new Map<ChainId, undefined>([[chainNumber(n), undefined]]);

describe.each(worlds)("the records %s", (_name, start) => {
  let world: ConformanceWorld;
  let records: ChainRecords;
  let other: ChainRecords;

  beforeEach(async () => {
    world = await start();
    records = (await world.ports()).records;
    other = (await world.ports()).records;
  });
  afterEach(async () => {
    await world[Symbol.asyncDispose]();
  });

  const ids = async () => (await other.load()).chains.map(({ id }) => id).sort();

  /** @returns the sequence of the last write */
  async function commit(written: ReadonlyMap<ChainId, Chain | undefined>, expected: number, isAtomic = false) {
    const result = await records.commit(written, expected, isAtomic);
    if (!result.ok) expect.unreachable(result.detail);
    return result.lastSequence;
  }

  test("what was committed is loaded as it was, by whomever", async () => {
    const { lastSequence } = await records.load();
    const last = await commit(changes(1), lastSequence);
    expect(await other.load()).toEqual({ chains: [chain(1)], lastSequence: last, removed: [], damaged: [] });
  });

  test("a write behind which another one has landed is refused, and changes nothing", async () => {
    const { lastSequence } = await other.load();
    await commit(changes(1), lastSequence);
    expect(await other.commit(changes(2), lastSequence, false)).toMatchObject({ ok: false, reason: "conflict" });
    expect(await ids()).toEqual([chainNumber(1)]);
  });

  test("an atomic group that is behind leaves nothing, one that is not lands whole", async () => {
    const { lastSequence } = await records.load();
    const last = await commit(changes(1), lastSequence);
    expect(await other.commit(changes(2, 3, 4), lastSequence, true)).toMatchObject({ ok: false });
    expect(await ids()).toEqual([chainNumber(1)]);
    await commit(changes(2, 3, 4), last, true);
    expect(await ids()).toEqual([1, 2, 3, 4].map(chainNumber));
  });

  test("of a pipelined group that is behind nothing lands, though its later writes expect sequences that are there", async () => {
    const { lastSequence } = await records.load();
    await commit(changes(1), lastSequence);
    expect(await other.commit(changes(2, 3), lastSequence, false)).toMatchObject({ ok: false });
    expect(await ids()).toEqual([chainNumber(1)]);
  });

  test("each commit of a writer goes on from the one before", async () => {
    let last = (await records.load()).lastSequence;
    for (const group of [changes(1, 2), changes(3), removal(1)]) last = await commit(group, last);
    expect(await ids()).toEqual([2, 3].map(chainNumber));
  });

  test("a removed chain is no longer loaded, and is remembered as removed", async () => {
    const { lastSequence } = await records.load();
    await commit(removal(1), await commit(changes(1, 2), lastSequence));
    const loaded = await other.load();
    expect(loaded.chains.map(({ id }) => id)).toEqual([chainNumber(2)]);
    expect(loaded.removed).toEqual([chainNumber(1)]);
  });

  test("a write that was under way before a fence never lands, and the fence is no chain", async () => {
    const { lastSequence } = await records.load();
    const last = await commit(changes(1), lastSequence);
    const fence = await other.fence(last);
    expect(fence).toMatchObject({ ok: true });
    expect(await records.commit(changes(2), last, false)).toMatchObject({ ok: false });
    expect(await records.fence(last)).toMatchObject({ ok: false });
    const loaded = await records.load();
    expect(loaded).toMatchObject({ removed: [], damaged: [], lastSequence: fence.ok ? fence.lastSequence : -1 });
    expect(loaded.chains).toEqual([chain(1)]);
    await commit(changes(2), loaded.lastSequence);
  });
});
