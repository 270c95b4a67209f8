import { afterAll, beforeAll, expect, test } from "vitest";
import { ChainStore } from "#bus/chain-store.ts";
import type { Connection } from "#bus/connection.ts";
import { askCoordinator } from "#bus/agent-client.ts";
import { askAdmin, chainsStream, streamFacts, watchChains } from "#bus/farm-client.ts";
import { serve } from "#bus/rpc.ts";
import { declareTopology } from "#bus/topology.ts";
import { startChain } from "#coordinator/core/chains.ts";
import type { Chain } from "#protocol/chain.ts";
import { decode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { Ask } from "#protocol/messages.ts";
import { adminSubject, askSubjects } from "#protocol/names.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { agentNamed, bootNumber, chainNumber, installRequest, startAt } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

let server: TestServer;
let connection: Connection;
let other: Connection;
beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  other = await server.connect();
});
afterAll(() => server[Symbol.asyncDispose]());

test("agents and the CLI ask the coordinator on their subjects", async () => {
  const asked: unknown[] = [];
  const services = [
    serve(connection, askSubjects, (call) => {
      const decoded = decode(Ask, call.bytes);
      asked.push(call.subject, decoded.ok && decoded.value);
      call.answer({ v: 1, verdict: "go" });
    }),
    serve(connection, adminSubject, (call) => call.answer({ kind: "agents", agents: [] })),
  ];
  await connection.flush();
  const ask: Ask = { v: 1, kind: "claim", boot: bootNumber(1), chain: chainNumber(1), job: "compile", attempt: 1 };
  expect(await askCoordinator(other, agentNamed("a"), ask)).toEqual({ v: 1, verdict: "go" });
  expect(asked).toEqual(["fy.ask.a", ask]);
  expect(await askAdmin(other, { v: 1, kind: "agents" })).toEqual({ kind: "agents", agents: [] });
  for (const service of services) service.stop();
  await connection.flush();
  await expect(askAdmin(other, { v: 1, kind: "agents" })).rejects.toThrow(UnavailableError);
});

test("whether the chains take atomic batches is known once a coordinator has been there", async () => {
  expect(await streamFacts(other, chainsStream)).toBeUndefined();
  await declareTopology(connection);
  expect(await streamFacts(other, chainsStream)).toEqual({ allowsAtomic: true, replicas: 1, isOnDisk: true });
});

test("a watch of chains shows them as they are, then every change, and no others", async () => {
  await declareTopology(connection);
  const store = new ChainStore(connection);
  const [mine, others, stranger] = [1, 2, 3].map((n) => startChain(installRequest(n), startAt)) as [
    Chain,
    Chain,
    Chain,
  ];
  await store.commit(new Map([[mine.id, mine]]), 0, false);
  const abort = new AbortController();
  const seen = new Arrivals<Chain>("chain");
  const watching = watchChains(other, [mine.id, others.id], abort.signal, seen.push);
  expect(await seen.next()).toEqual(mine);
  await store.commit(new Map([stranger, others].map((chain) => [chain.id, chain])), 1, true);
  await store.commit(new Map([[stranger.id, undefined]]), 3, false);
  await store.commit(new Map([[mine.id, { ...mine, createdAt: 7 }]]), 4, false);
  expect(await seen.next()).toEqual(others);
  expect(await seen.next()).toEqual({ ...mine, createdAt: 7 });
  abort.abort();
  await watching;
  await watchChains(other, [mine.id], abort.signal, () => undefined);
});
