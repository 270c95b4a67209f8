import { jetstreamManager } from "@nats-io/jetstream";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { digestOf } from "#actor/digest.ts";
import type { Delivery } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import type { Connection } from "#bus/connection.ts";
import { laneSource, onPrefetch, publishDispatch, publishStop } from "#bus/lanes.ts";
import { declareTopology } from "#bus/topology.ts";
import { encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { PrefetchHint, StopOrder } from "#protocol/messages.ts";
import { laneConsumer, laneSubject, prefetchSubject, stopSubject, streams } from "#protocol/names.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { agentNamed, chainNumber } from "#test/support/farm-builders.ts";
import { compileDispatch, uploadDispatch } from "#test/support/lane-bench.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const agent = agentNamed("builder");
let server: TestServer;
let connection: Connection;
let stopping: AbortController;
let pulling: Promise<void>[];

beforeEach(async () => {
  server = await testServer();
  connection = await server.connect();
  await declareTopology(connection);
  stopping = new AbortController();
  pulling = [];
});
afterEach(async () => {
  stopping.abort();
  await Promise.all(pulling);
  await server[Symbol.asyncDispose]();
});

function pull(slots: number): Arrivals<Delivery> {
  const arrivals = new Arrivals<Delivery>("delivery");
  const source = laneSource(connection, "compile", agent, slots, silentLog);
  pulling.push(
    (async () => {
      for await (const delivery of source.pull(stopping.signal)) arrivals.push(delivery);
    })(),
  );
  return arrivals;
}

async function waiting(): Promise<{ messages: number; unacknowledged: number; undelivered: number }> {
  const manager = await jetstreamManager(connection);
  const { state } = await manager.streams.info(streams.lanes);
  const consumer = await manager.consumers.info(streams.lanes, laneConsumer("compile", agent));
  return {
    messages: state.messages,
    unacknowledged: consumer.num_ack_pending,
    undelivered: consumer.num_pending,
  };
}

test("the same assignment published twice is one message; the next attempt is another", async () => {
  await publishDispatch(connection, agent, compileDispatch(1));
  await publishDispatch(connection, agent, compileDispatch(1));
  await publishDispatch(connection, agent, compileDispatch(1, 2));
  const arrivals = pull(5);
  const attempts = [await arrivals.next(), await arrivals.next()].map(({ dispatch }) => dispatch.attempt);
  expect(attempts).toEqual([1, 2]);
  expect(await waiting()).toEqual({ messages: 2, unacknowledged: 2, undelivered: 0 });
});

test("an agent gets its own lane only, whole", async () => {
  await publishDispatch(connection, agentNamed("other"), compileDispatch(1));
  await publishDispatch(connection, agent, uploadDispatch(2));
  await publishDispatch(connection, agent, compileDispatch(3));
  const arrivals = pull(5);
  expect((await arrivals.next()).dispatch).toEqual(compileDispatch(3));
  expect(arrivals.all).toHaveLength(1);
});

test("no more is delivered than there are slots, until one of them is done", async () => {
  for (const n of [1, 2, 3]) await publishDispatch(connection, agent, compileDispatch(n));
  const arrivals = pull(2);
  const first = await arrivals.next();
  await arrivals.next();
  expect(await waiting()).toEqual({ messages: 3, unacknowledged: 2, undelivered: 1 });
  expect(arrivals.all).toHaveLength(2);
  first.done();
  expect((await arrivals.next()).dispatch.chain).toBe(chainNumber(3));
});

test("an agent that comes back with other slots gets as much as it can hold now", async () => {
  for (const n of [1, 2, 3]) await publishDispatch(connection, agent, compileDispatch(n));
  const former = pull(1);
  (await former.next()).done();
  await former.next();
  stopping.abort();
  await Promise.all(pulling);
  stopping = new AbortController();
  expect((await pull(2).next()).dispatch.chain).toBe(chainNumber(3));
});

test("what is done leaves the lane", async () => {
  await publishDispatch(connection, agent, compileDispatch(1));
  (await pull(1).next()).done();
  await vi.waitFor(async () => expect((await waiting()).messages).toBe(0), 5_000);
});

test("a message that cannot be decoded is taken out and does not hold up the lane", async () => {
  await connection.request(laneSubject("compile", agent), "nonsense");
  await publishDispatch(connection, agent, compileDispatch(1));
  const delivery = await pull(1).next();
  expect(delivery.dispatch.chain).toBe(chainNumber(1));
  delivery.done();
  await vi.waitFor(async () => expect((await waiting()).messages).toBe(0), 5_000);
});

test("after kill -9 and a restart of the server stream and consumer are made again, and dispatches come again", async () => {
  const arrivals = pull(1);
  await publishDispatch(connection, agent, compileDispatch(1));
  await arrivals.next();
  for (const n of [2, 3]) {
    await server.kill();
    await server.restart();
    await declareTopology(connection);
    await publishDispatch(connection, agent, compileDispatch(n));
    const delivery = await arrivals.next();
    expect(delivery.dispatch.chain).toBe(chainNumber(n));
    delivery.done();
  }
});

test("a stream that is missing is waited for", async () => {
  const manager = await jetstreamManager(connection);
  await manager.streams.delete(streams.lanes);
  const arrivals = pull(1);
  await expect(publishDispatch(connection, agent, compileDispatch(1))).rejects.toThrow(UnavailableError);
  await declareTopology(connection);
  await publishDispatch(connection, agent, compileDispatch(1));
  expect((await arrivals.next()).dispatch.chain).toBe(chainNumber(1));
});

test("a pull ends with its signal, also with one that has fired before", async () => {
  pull(1);
  stopping.abort();
  pull(1);
  await Promise.all(pulling);
  expect(pulling).toHaveLength(2);
});

test("hints reach their agent until it stops listening; nonsense is passed over", async () => {
  const hints = new Arrivals<PrefetchHint>("hint");
  const listening = onPrefetch(connection, agent, hints.push);
  const bundle = digestOf(Buffer.from("bundle"));
  connection.publish(prefetchSubject(agent), "nonsense");
  connection.publish(prefetchSubject(agent), encode({ v: 1, bundle }));
  expect(await hints.next()).toEqual({ v: 1, bundle });
  listening.stop();
  connection.publish(prefetchSubject(agent), encode({ v: 1, bundle }));
  await connection.flush();
  expect(hints.all).toHaveLength(1);
});

test("stop orders reach their agent until it stops listening; nonsense is passed over", async () => {
  const orders = new Arrivals<StopOrder>("stop order");
  const listening = laneSource(connection, "compile", agent, 1, silentLog).onStop(orders.push);
  const order: StopOrder = { v: 1, chain: chainNumber(1), job: "compile", attempt: 1 };
  connection.publish(stopSubject(agent), "nonsense");
  publishStop(connection, agentNamed("other"), order);
  publishStop(connection, agent, { ...order, attempt: 2 });
  expect(await orders.next()).toEqual({ ...order, attempt: 2 });
  listening.stop();
  publishStop(connection, agent, order);
  await connection.flush();
  expect(orders.all).toHaveLength(1);
});
