import { rm } from "node:fs/promises";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { bucketStream, buckets } from "#protocol/names.ts";
import { declarations } from "#bus/topology.ts";
import { chainNumber, installRequest } from "#test/support/farm-builders.ts";
import { NatsCluster } from "#test/support/nats-cluster.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** Elections, and everything copied, on a busy machine. */
const withinMs = 90_000;

test("a server that comes back with an empty store gets everything from the others, and then one of these may go", async () => {
  await using cluster = await NatsCluster.start();
  const connection = await cluster.connect();
  const ports = coordinatorPorts(connection);
  await ports.prepare();
  const farm = new TestFarm();
  farm.submit(installRequest(1));
  const chains = new Map(
    Array.from({ length: 50 }, (_, n) => [chainNumber(n), { ...farm.chain(1), id: chainNumber(n) }]),
  );
  await ports.history.putAll(chains);
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 2_000 });
  const leader = await cluster.leaderOf(bucketStream(buckets.history));

  await cluster.kill(leader);
  await rm(join(cluster.folder, leader, "store"), { recursive: true });
  await cluster.startNode(leader);
  // A lag of none is not said.
  const isWhole = async (stream: string) => {
    const { cluster: found } = await manager.streams.info(stream);
    return found?.replicas?.some(({ name, current, lag }) => name === leader && current && !(lag > 0)) === true;
  };
  const whole = await poll(systemClock, { everyMs: 500, withinMs }, async () => {
    const all = await Promise.all(declarations.map(({ name }) => isWhole(name).catch(() => false)));
    return all.every(Boolean) ? true : undefined;
  });
  expect(whole).toBe(true);

  const other = await cluster.leaderOf(bucketStream(buckets.history));
  expect(other).not.toBe(leader);
  await cluster.kill(other);
  const found = await poll(systemClock, { everyMs: 500, withinMs }, () => ports.history.all().catch(() => undefined));
  expect(found).toHaveLength(50);
}, 240_000);
