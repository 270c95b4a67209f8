import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { ChainStore } from "#bus/chain-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { startChain } from "#coordinator/core/chains.ts";
import { buildRequest } from "#test/support/farm-builders.ts";
import { testServer } from "#test/support/nats-server.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

test("what was answered survives kill -9 of the server", async () => {
  await using server = await testServer();
  const connection = await server.connect();
  await declareTopology(connection);
  const chain = startChain(buildRequest(1), 1);
  const before = await new ChainStore(connection).commit(new Map([[chain.id, chain]]), 0, false);
  await server.kill();
  await server.restart();
  const loaded = await new ChainStore(await server.connect()).load();
  expect(before).toEqual({ ok: true, lastSequence: loaded.lastSequence });
  expect(loaded.chains).toEqual([chain]);
});

test("it listens on loopback only, syncs before each answer, and nobody else reads its files", async () => {
  await using server = await testServer();
  const configuration = join(server.folder, "nats-server.conf");
  const text = await readFile(configuration, "utf8");
  expect(text).toMatch(/^listen: "127\.0\.0\.1:\d+"$/m);
  expect(text).toContain("sync_interval: always");
  expect((await stat(configuration)).mode & 0o077).toBe(0);
  expect((await stat(join(server.folder, "nats-server.log"))).size).toBeGreaterThan(0);
  expect(server.url).toMatch(/^nats:\/\/127\.0\.0\.1:\d+$/);
});

test("a second server on the same port is refused, and a program that is no server is quoted", async () => {
  await using server = await testServer();
  await using folder = await temporaryFolder();
  const port = Number(server.url.split(":")[2]);
  const taken = await startEmbeddedServer({ binary: "/bin/false", folder: folder.path, port }).catch((e: unknown) => e);
  expect(taken).toBeInstanceOf(UsageError);
  expect(taken).toMatchObject({ code: "port-taken" });
  const failed = await startEmbeddedServer({ binary: "/bin/false", folder: folder.path }).catch((e: unknown) => e);
  expect(failed).toBeInstanceOf(UnavailableError);
  expect(failed).toMatchObject({ code: "server-not-started" });
});
