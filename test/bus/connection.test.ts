import { expect, test } from "vitest";
import { z } from "zod";
import { freePort } from "#actor/loopback-port.ts";
import { connect, onDisconnect, onReconnect, translate } from "#bus/connection.ts";
import { request } from "#bus/rpc.ts";
import { InvariantError, UnavailableError } from "#protocol/errors.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { testServer } from "#test/support/nats-server.ts";

test("where no server listens the address is named", async () => {
  const url = `nats://127.0.0.1:${await freePort()}`;
  const error = await connect(url, "test").catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UnavailableError);
  expect(error).toMatchObject({ code: "no-server" });
  expect((error as Error).message).toContain(url);
});

test("of several servers each is tried, and where none listens all are named without their passwords", async () => {
  await using server = await testServer();
  const away = `nats://somebody:secret@127.0.0.1:${await freePort()}`;
  const found = await connect(`${away}, ${server.url}`, "test");
  expect(`nats://${found.getServer()}`).toBe(server.url);
  await found.close();
  const error = await connect(`${away},nats://127.0.0.1:9`, "test").catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "no-server" });
  const shown = away.replace("somebody:secret@", "");
  expect((error as Error).message).toContain(`no NATS server answers at any of ${shown}, nats://127.0.0.1:9: `);
  await expect(connect(" , ", "test")).rejects.toMatchObject({ code: "bad-server" });
});

test("our own errors stay what they are, and a closed connection is unavailable", async () => {
  const bug = new InvariantError("bug", "a bug");
  expect(translate(bug, "test")).toBe(bug);
  expect(translate("thrown text", "test")).toBeInstanceOf(UnavailableError);
  await using server = await testServer();
  const cut = await server.connect();
  await cut.close();
  const error = await request(cut, "test.nobody", {}, z.object({}), 100).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "closed" });
});

test("a connection outlives its server, and says when it is gone and when it is back", async () => {
  await using server = await testServer();
  const surviving = await server.connect();
  const told = new Arrivals<string>("change of the connection");
  onDisconnect(surviving, () => told.push("gone"));
  onDisconnect(surviving, () => told.push("told though it has stopped")).stop();
  onReconnect(surviving, () => told.push("back"));
  for (let i = 0; i < 2; i++) {
    await server.kill();
    expect(await told.next()).toBe("gone");
    await server.restart();
    expect(await told.next()).toBe("back");
    await surviving.flush();
  }
});

test.each([
  "nats://10.8.0.1:4222",
  "nats.example.org",
  "nats://user:pw@nats:4222",
  "nats://127.0.0.1:1,nats://[fe80::1]:4222",
])("what would cross a network in the clear is refused: %s", async (urls) => {
  await expect(connect(urls, "test")).rejects.toMatchObject({
    code: "tls-required",
    message: expect.not.stringContaining("pw@"),
  });
});

test.each(["nats://127.0.0.1:1", "127.0.0.1:1", "nats://localhost:1", "nats://[::1]:1", "tls://127.0.0.1:1"])(
  "this machine needs no encryption: %s",
  async (url) => {
    await expect(connect(url, "test")).rejects.toMatchObject({ code: "no-server" });
  },
);
