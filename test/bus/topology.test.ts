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

test("what must survive is on disk; the lanes and the presence are in memory", async () => {
  await declareTopology(connection);
  const found = await declared();
  const inMemory = [...found.values()].filter(({ storage }) => storage === "memory").map(({ name }) => name);
  expect(inMemory.sort()).toEqual([streams.lanes, bucketStream(buckets.presence)].sort());
  expect(found.get(bucketStream(buckets.chains))).toMatchObject({ allow_atomic: true, allow_msg_ttl: true });
  expect(found.get(streams.lanes)).toMatchObject({ retention: "workqueue" });
});
