import { jetstreamManager } from "@nats-io/jetstream";
import { expect, test } from "vitest";
import { declarations, declareTopology } from "#bus/topology.ts";
import { NatsCluster } from "#test/support/nats-cluster.ts";

test("a farm with one replica gets three by itself, and one again where a person says so", async () => {
  await using cluster = await NatsCluster.start();
  const connection = await cluster.connect();
  const manager = await jetstreamManager(connection);
  const replicas = async () =>
    new Set(
      await Promise.all(declarations.map(async ({ name }) => (await manager.streams.info(name)).config.num_replicas)),
    );
  const told: string[] = [];
  const tell = (line: string) => void told.push(line);
  await declareTopology(connection, { replicas: 1, tell });
  expect(await replicas()).toEqual(new Set([1]));
  expect(told).toEqual([]);
  await declareTopology(connection, { tell });
  expect(await replicas()).toEqual(new Set([3]));
  expect(told).toEqual(declarations.map(({ name }) => `${name} goes from 1 to 3 replicas`));
  await declareTopology(connection, { tell });
  expect(told).toHaveLength(declarations.length);
  await declareTopology(connection, { replicas: 1, tell });
  expect(await replicas()).toEqual(new Set([1]));
  const tooMany = declareTopology(connection, { replicas: 5 });
  await expect(tooMany).rejects.toMatchObject({ code: "too-few-servers" });
});
