import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { encode } from "#protocol/envelope.ts";
import { buckets, bucketStream, keySubject } from "#protocol/names.ts";
import type { Connection } from "#bus/connection.ts";
import { readStream } from "#bus/stream-reader.ts";
import { declareTopology } from "#bus/topology.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const stream = bucketStream(buckets.history);
let server: TestServer;
let connection: Connection;
beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  await declareTopology(connection);
});
afterAll(() => server[Symbol.asyncDispose]());

test("whoever has read leaves no consumer behind, read to the end or not: a stream takes a thousand", async () => {
  for await (const message of readStream(connection, stream)) expect(message).toBeUndefined();
  for (const key of ["one", "two"]) await connection.request(keySubject(buckets.history, key), encode({}));
  let count = 0;
  for await (const message of readStream(connection, stream)) count += message.seq > 0 ? 1 : 0;
  expect(count).toBe(2);
  for await (const message of readStream(connection, stream)) {
    expect(message.seq).toBe(1);
    break;
  }
  const { streams } = await jetstreamManager(connection);
  await vi.waitFor(async () => expect((await streams.info(stream)).state.consumer_count).toBe(0), 5_000);
});
