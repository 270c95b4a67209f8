import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { ChainStore } from "#bus/chain-store.ts";
import type { Connection } from "#bus/connection.ts";
import { declareTopology } from "#bus/topology.ts";
import { startChain } from "#coordinator/core/chains.ts";
import type { Chain } from "#protocol/chain.ts";
import { InvariantError, UnavailableError, WireError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { buckets, bucketStream, keySubject } from "#protocol/names.ts";
import { chainNumber, installRequest, startAt } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

let server: TestServer;
let connection: Connection;
let store: ChainStore;
/** The sequence of the last write. */
let last: number;

beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  await declareTopology(connection);
  store = new ChainStore(connection);
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  await (await jetstreamManager(connection)).streams.purge(bucketStream(buckets.chains));
  last = (await store.load()).lastSequence;
});

/** The records of the chains with these numbers. */
function records(from: number, count: number): ReadonlyMap<ChainId, Chain> {
  const chains = Array.from({ length: count }, (_, index) => startChain(installRequest(from + index), startAt));
  return new Map(chains.map((chain) => [chain.id, chain]));
}

const loadedIds = async () => (await store.load()).chains.map(({ id }) => id).sort();

test.each([
  ["a single record", 1, false],
  ["a few that are independent", 5, false],
  ["a few that belong together", 5, true],
  ["more than are pipelined", 30, false],
  ["five hundred that belong together", 500, true],
  ["more than fit into one batch, when they are independent", 1_200, false],
])("%s: written, and read back as they were", async (_name, count, isAtomic) => {
  const written = records(1, count);
  const result = await store.commit(written, last, isAtomic);
  expect(result).toEqual({ ok: true, lastSequence: last + count });
  const loaded = await store.load();
  expect(new Map(loaded.chains.map((chain) => [chain.id, chain]))).toEqual(written);
  expect(loaded).toMatchObject({ lastSequence: last + count, damaged: [] });
});

test.each([
  ["a single write", 1, false, 1],
  ["a pipeline", 5, false, 1],
  ["a pipeline", 5, false, 3],
  ["a batch", 30, false, 1],
  ["an atomic batch", 5, true, 1],
])("%s of %i, of a writer that has missed writes of somebody else, lands nowhere (%s, %i)", async (...scene) => {
  const [, count, isAtomic, missed] = scene;
  const other = new ChainStore(await server.connect());
  await other.commit(records(9_000, missed), last, false);
  expect(await store.commit(records(1, count), last, isAtomic)).toMatchObject({ ok: false, reason: "conflict" });
  expect(await loadedIds()).toEqual([...records(9_000, missed).keys()]);
  const { lastSequence } = await store.load();
  expect(await store.commit(records(1, count), lastSequence, isAtomic)).toMatchObject({ ok: true });
});

test("a writer that believes in a later sequence than there is writes nothing either", async () => {
  expect(await store.commit(records(1, 1), last + 1, false)).toMatchObject({ ok: false });
  expect(await store.commit(records(1, 30), last + 1, true)).toMatchObject({ ok: false });
  expect(await loadedIds()).toEqual([]);
});

test("of two writers with the same knowledge one wins with all of its batch", async () => {
  const other = new ChainStore(await server.connect());
  const [mine, theirs] = [records(1, 100), records(5_000, 100)];
  const results = await Promise.all([store.commit(mine, last, true), other.commit(theirs, last, true)]);
  expect(results.filter(({ ok }) => ok)).toHaveLength(1);
  const winner = results[0].ok ? mine : theirs;
  expect(await loadedIds()).toEqual([...winner.keys()].sort());
});

test("a batch of which one record is refused by the server leaves nothing behind", async () => {
  const written = new Map(records(1, 3));
  const [second] = [...written.keys()].slice(1);
  const huge = { ...written.get(second!)!, configuration: "x".repeat(9_000_000) } as Chain;
  await expect(store.commit(new Map([...written, [huge.id, huge]]), last, true)).rejects.toThrow(UnavailableError);
  expect(await loadedIds()).toEqual([]);
});

test("more records than one atomic batch holds are our own mistake", async () => {
  await expect(store.commit(records(1, 1_001), last, true)).rejects.toThrow(InvariantError);
  expect(await loadedIds()).toEqual([]);
});

test("removed chains leave the load and are named as removed, alone and in a batch with others", async () => {
  const written = records(1, 40);
  await store.commit(written, last, true);
  const [first, ...rest] = written.keys();
  expect(await store.commit(new Map([[first!, undefined]]), last + 40, false)).toEqual({
    ok: true,
    lastSequence: last + 41,
  });
  const changes = new Map<ChainId, Chain | undefined>(rest.slice(0, 30).map((id) => [id, undefined]));
  for (const [id, chain] of records(100, 2)) changes.set(id, chain);
  expect(await store.commit(changes, last + 41, true)).toMatchObject({ ok: true });
  expect(await loadedIds()).toEqual([...rest.slice(30), ...records(100, 2).keys()].sort());
  const { removed } = await store.load();
  expect(removed).toHaveLength(31);
  expect(new Set(removed)).toEqual(new Set([first, ...rest.slice(0, 30)]));
});

test("a record is replaced by its next version", async () => {
  const [chain] = records(1, 1).values();
  await store.commit(new Map([[chain!.id, chain]]), last, false);
  const next = { ...chain!, createdAt: startAt + 1 };
  await store.commit(new Map([[next.id, next]]), last + 1, false);
  expect((await store.load()).chains).toEqual([next]);
});

test("a record that cannot be decoded is reported by its key, and stays where it is", async () => {
  await store.commit(records(1, 2), last, true);
  for (const body of ["not json", '{"v":99}']) {
    await connection.request(keySubject(buckets.chains, chainNumber(50)), body);
    for (let i = 0; i < 2; i++) {
      const { chains, damaged } = await store.load();
      expect(chains).toHaveLength(2);
      expect(damaged).toEqual([{ key: chainNumber(50), error: expect.any(WireError) }]);
    }
  }
});

test("an empty bucket has no chains", async () => {
  expect(await store.load()).toEqual({ chains: [], removed: [], damaged: [], lastSequence: last });
});

test("without a server nothing is known", async () => {
  await using gone = await testServer();
  const cut = await gone.connect();
  const orphan = new ChainStore(cut);
  await cut.close();
  await expect(orphan.load()).rejects.toThrow(UnavailableError);
  await expect(orphan.commit(records(1, 1), 0, false)).rejects.toThrow(UnavailableError);
});
