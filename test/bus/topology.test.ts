import { jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Connection } from "#bus/connection.ts";
import { declarations, declareTopology } from "#bus/topology.ts";
import { buckets, bucketStream, streams } from "#protocol/names.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

let server: TestServer;
let connection: Connection;
beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
});
afterAll(() => server[Symbol.asyncDispose]());

async function declared(): Promise<ReadonlyMap<string, StreamConfig & { readonly created: string }>> {
  const manager = await jetstreamManager(connection);
  const found = new Map<string, StreamConfig & { created: string }>();
  for await (const { config, created } of manager.streams.list()) found.set(config.name, { ...config, created });
  return found;
}

test("declaring twice, also at the same time, changes nothing", async () => {
  await Promise.all([declareTopology(connection), declareTopology(await server.connect())]);
  const first = await declared();
  await declareTopology(connection);
  expect(await declared()).toEqual(first);
  expect([...first.keys()].sort()).toEqual(declarations.map(({ name }) => name).sort());
});

test("what must survive is on disk; the lanes, the presence and the lease are in memory", async () => {
  await declareTopology(connection);
  const found = await declared();
  const inMemory = [...found.values()].filter(({ storage }) => storage === "memory").map(({ name }) => name);
  expect(inMemory.sort()).toEqual([streams.lanes, bucketStream(buckets.presence), bucketStream(buckets.lease)].sort());
  expect(found.get(bucketStream(buckets.chains))).toMatchObject({ allow_atomic: true, allow_msg_ttl: true });
  expect(found.get(streams.lanes)).toMatchObject({ retention: "workqueue" });
});

test("a server without room for a stream is named with what the stream wants", async () => {
  await using full = await testServer();
  const own = await full.connect();
  const manager = await jetstreamManager(own);
  // Reserves all of the store but less than a gibibyte, in ever smaller pieces.
  for (let bytes = 1024 ** 4; bytes >= 1024 ** 3;) {
    const name = `HOG_${bytes}_${Math.random().toString(36).slice(2)}`;
    const isTaken = await manager.streams.add({ name, subjects: [name], max_bytes: bytes }).then(
      () => true,
      () => false,
    );
    if (!isTaken) bytes /= 2;
  }
  const refused = declareTopology(own);
  await expect(refused).rejects.toMatchObject({ code: "disk-too-small", message: expect.stringContaining("2 GiB") });
});
