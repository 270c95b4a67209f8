import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { expect, test } from "vitest";
import { startChildServer } from "#actor/child-server.ts";
import { connect } from "#bus/connection.ts";
import { checkServer, requireAtomic, requireVersion } from "#bus/server-check.ts";
import { serverVersionMin } from "#bus/server-version.ts";
import { declareTopology } from "#bus/topology.ts";
import { UsageError } from "#protocol/errors.ts";
import { serverBinary, testServer } from "#test/support/nats-server.ts";

const thrownBy = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return error;
  }
};

test("a server that is too old is refused with its version and the one that is needed", () => {
  const error = thrownBy(() => requireVersion("2.10.22"));
  expect(error).toBeInstanceOf(UsageError);
  expect(error).toMatchObject({ code: "nats-server-too-old", facts: { found: "2.10.22", needed: serverVersionMin } });
  expect((error as Error).message).toContain(`2.10.22, and flashyard needs ${serverVersionMin}`);
  expect((thrownBy(() => requireVersion("")) as Error).message).toContain("of an unknown version");
  expect(thrownBy(() => requireVersion(serverVersionMin))).toBeUndefined();
});

test("a server with JetStream is accepted", async () => {
  await using server = await testServer();
  expect(await checkServer(await server.connect())).toBeUndefined();
});

test("a server without JetStream is refused with what to do", async () => {
  const binary = await serverBinary();
  const argvFor = (port: number) => [binary, "-a", "127.0.0.1", "-p", String(port)];
  const server = await startChildServer({ name: "nats-server", argvFor });
  const connection = await connect(`nats://127.0.0.1:${server.port}`, "test");
  const error = await checkServer(connection).catch((thrown: unknown) => thrown);
  await connection.close();
  await server.stop();
  expect(error).toBeInstanceOf(UsageError);
  expect(error).toMatchObject({ code: "jetstream-disabled" });
  expect((error as Error).message).toContain(`127.0.0.1:${server.port} has no JetStream`);
});

test("a connection that is closed is not up", async () => {
  await using server = await testServer();
  const connection = await server.connect();
  await connection.close();
  await expect(checkServer(connection)).rejects.toMatchObject({ code: expect.stringMatching(/away|not-connected/) });
});

test("a bucket of the chains that was made without atomic batches allows them from then on, and keeps its records", async () => {
  await using server = await testServer();
  const connection = await server.connect();
  const manager = await jetstreamManager(connection);
  await manager.streams.add({ name: "KV_fy_chains", subjects: ["$KV.fy_chains.>"], max_age: 5e12 });
  await jetstream(connection).publish("$KV.fy_chains.one");
  await declareTopology(connection);
  const { config, state } = await manager.streams.info("KV_fy_chains");
  expect(config).toMatchObject({ allow_atomic: true, allow_msg_ttl: true, max_msgs_per_subject: 1, max_age: 5e12 });
  expect(state.messages).toBe(1);
});

test("a stream for which the server has dropped the atomic batches is refused", () => {
  const error = thrownBy(() => requireAtomic({ name: "KV_fy_chains" }));
  expect(error).toBeInstanceOf(UsageError);
  expect(error).toMatchObject({ code: "nats-server-not-atomic", facts: { stream: "KV_fy_chains" } });
  expect(thrownBy(() => requireAtomic({ name: "X", allow_atomic: true }))).toBeUndefined();
});
