/** A farm that other machines may reach: everything by TLS, and nobody is heard who has not been let in. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "#bus/connection.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { Credentials } from "#bus/identity/credentials.ts";
import { type Cli, RealFarm } from "#test/support/real-farm.ts";

let farm: RealFarm;
let up: Cli;
let servers: string;

beforeAll(async () => {
  farm = await RealFarm.open();
  servers = `tls://127.0.0.1:${farm.port}`;
  up = await start();
});
afterAll(async () => {
  up.child.kill("SIGINT");
  await up.end();
  await farm[Symbol.asyncDispose]();
});

async function start(): Promise<Cli> {
  const started = farm.up(["--host", "farm.example"], { FLASHYARD_MDNS: "off" });
  await started.prints(/Ctrl-C ends the farm/);
  return started;
}

async function credentials(): Promise<Credentials> {
  return Credentials.parse(JSON.parse(await readFile(farm.credentials, "utf8")));
}

test("a device is built and flashed, with every process signed in and every byte encrypted", async () => {
  const lamp = await farm.device("lamp");
  const file = await farm.write(lamp, { edition: 1 });
  const args = ["install", file, "--device", lamp.address, "--json"];
  const end = await farm.cli(args, { FLASHYARD_NATS_URL: servers }).end();
  expect(end, end.err).toMatchObject({ code: 0 });
  expect(await lamp.runs()).toBe(1);
});

test("whoever has no credentials, those of another farm, or does not know the farm's authority, is not heard", async () => {
  const { farm: known } = await credentials();
  const nobody = { inbox: "_INBOX_stranger", authority: known.authority };
  const stranger = await connect(servers, "nobody", nobody);
  await expect(askAdmin(stranger, { v: 1, kind: "status" })).rejects.toMatchObject({ code: expect.any(String) });
  await stranger.close();
  await expect(connect(servers, "nobody", { inbox: "_INBOX_stranger" })).rejects.toMatchObject({ code: "no-server" });
  const plain = `nats://127.0.0.1:${farm.port}`;
  await expect(connect(plain, "nobody", nobody)).rejects.toMatchObject({ code: "no-server" });
  const other = join(farm.folder, "none.json");
  const end = await farm.cli(["ps"], { FLASHYARD_NATS_URL: servers, FLASHYARD_CREDENTIALS: other }).end();
  expect(end.code).not.toBe(0);
});

test("secret files are their owner's alone, and a farm that starts again is the same farm", async () => {
  const before = await credentials();
  const names = ["keys.json", "coordinator.json", "admin.json"].map((name) => join(farm.home, "identity", name));
  const agents = await farm.cli(["agents", "--json"], { FLASHYARD_NATS_URL: servers }).end();
  const [builder = ""] = agents.out.match(/[a-z0-9-]+-compile/) ?? [];
  names.push(join(farm.home, "agents", builder, "credentials.json"), join(farm.home, "nats", "server.key"));
  for (const name of names) expect((await stat(name)).mode & 0o777, name).toBe(0o600);
  up.child.kill("SIGINT");
  expect(await up.end()).toMatchObject({ code: 0 });
  up = await start();
  expect(await credentials()).toEqual(before);
  expect(await farm.cli(["history"], { FLASHYARD_NATS_URL: servers }).end()).toMatchObject({ code: 0 });
});
