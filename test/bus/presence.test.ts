import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Connection } from "#bus/connection.ts";
import { announce, watchPresence } from "#bus/presence.ts";
import { declareTopology } from "#bus/topology.ts";
import type { Announcement } from "#protocol/agent.ts";
import { encode } from "#protocol/envelope.ts";
import { buckets, bucketStream, keySubject } from "#protocol/names.ts";
import { presenceTtlMs } from "#protocol/limits.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { statementOf } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

let server: TestServer;
let connection: Connection;
beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  await declareTopology(connection);
});
afterAll(() => server[Symbol.asyncDispose]());

test("a watch hears the present statements first, then every new one of an agent about itself, until its signal", async () => {
  announce(connection, statementOf("first", "compile"));
  await connection.flush();
  const heard = new Arrivals<Announcement>("statement");
  const abort = new AbortController();
  const watching = watchPresence(connection, abort.signal, heard.push);
  expect(await heard.next()).toEqual(statementOf("first", "compile"));
  connection.publish(keySubject(buckets.presence, "broken"), "nonsense");
  connection.publish(keySubject(buckets.presence, "liar"), encode(statementOf("first", "compile", { slots: 9 })));
  announce(connection, statementOf("second", "upload"));
  announce(connection, statementOf("first", "compile", { slots: 2 }));
  expect(await heard.next()).toEqual(statementOf("second", "upload"));
  expect(await heard.next()).toEqual(statementOf("first", "compile", { slots: 2 }));
  abort.abort();
  await watching;
});

test("a watch whose signal fires while it opens ends as well", async () => {
  const abort = new AbortController();
  const watching = watchPresence(connection, abort.signal, () => undefined);
  abort.abort();
  await watching;
  await watchPresence(connection, AbortSignal.abort(), () => undefined);
});

test("a statement is gone when its beats have ended", async () => {
  const manager = await jetstreamManager(connection);
  const { config } = await manager.streams.info(bucketStream(buckets.presence));
  expect(config).toMatchObject({ max_age: presenceTtlMs * 1_000_000, max_msgs_per_subject: 1 });
});

test("an agent whose connection is closed announces nothing and does not fail", async () => {
  const cut = await server.connect();
  await cut.close();
  announce(cut, statementOf("third", "compile"));
});
