/** Agents whose right to connect ends, and those that renew it, over a real server. */
import { join } from "node:path";
import { fromSeed } from "@nats-io/nkeys";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { silentLog } from "#actor/log.ts";
import { askCoordinator, askForLane } from "#bus/agent-client.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { newAgentSecrets, publicKeysOf } from "#bus/identity/agent-keys.ts";
import { userToken } from "#bus/identity/accounts.ts";
import { type Credentials, readCredentials, signInOf, writeCredentials } from "#bus/identity/credentials.ts";
import { farmOf } from "#bus/identity/identity-folder.ts";
import { edgeApiPrefix } from "#bus/identity/permissions.ts";
import { endOf } from "#bus/identity/token-claims.ts";
import { TokenRenewal } from "#bus/identity/token-renewal.ts";
import { announce } from "#bus/presence.ts";
import { tokenMs } from "#protocol/limits.ts";
import { ScriptedAgent } from "#test/support/scripted-agent.ts";
import { agentNamed, buildRequest, built, chainNumber, statementOf } from "#test/support/farm-builders.ts";
import { IdentifiedFarm } from "#test/support/identified-farm.ts";

const withinMs = 8_000;
/** Whoever is revoked is cut off within this. */
const cutMsMax = 5_000;

let farm: IdentifiedFarm;
let open: Connection[];
beforeEach(async () => {
  farm = await IdentifiedFarm.start();
  open = [];
});
afterEach(async () => {
  await Promise.all(open.map((connection) => connection.close()));
  await farm[Symbol.asyncDispose]();
});

/** An enrolled agent: its file of credentials, and what is in it. */
async function enrolled(name: string): Promise<{ readonly path: string; readonly credentials: Credentials }> {
  const secrets = newAgentSecrets();
  const agent = agentNamed(name);
  const identity = { agent, lane: "compile" as const, ...publicKeysOf(secrets), host: "pi" };
  const { token } = await farm.ask("enrolled", { v: 1, kind: "enrol-agent", ...identity });
  const credentials: Credentials = {
    v: 1,
    role: { kind: "agent", agent, lane: "compile" },
    servers: farm.url,
    token,
    ...secrets,
    farm: await farmOf(farm.keys),
  };
  const path = join(farm.folder, `${name}.json`);
  await writeCredentials(path, credentials);
  return { path, credentials };
}

async function entered({ credentials }: { readonly credentials: Credentials }): Promise<Connection> {
  const connection = await connect(farm.url, "agent", signInOf(credentials));
  open.push(connection);
  return connection;
}

const online = async () => {
  const { agents } = await farm.ask("agents", { v: 1, kind: "agents" });
  return agents.filter(({ online }) => online).map(({ announcement }) => announcement.agent);
};

/** Until the coordinator has heard an agent. */
function heard(connection: Connection, name: string): Promise<void> {
  return vi.waitFor(async () => {
    announce(connection, statementOf(name, "compile"));
    expect(await online()).toContain(name);
  }, withinMs);
}

test("a revoked agent is cut off within seconds, does not come back, and its neighbour notices nothing", async () => {
  const [lost, kept] = [await enrolled("lost"), await enrolled("kept")];
  const [victim, neighbour] = [await entered(lost), await entered(kept)];
  await heard(victim, "lost");
  const disconnections: string[] = [];
  void (async () => {
    for await (const { type } of neighbour.status()) if (type === "disconnect") disconnections.push(type);
  })();
  const before = performance.now();
  const { out, code } = await farm.cli("agent", "revoke", "lost");
  expect([code, out]).toEqual([0, "lost is revoked: its connection is cut, and it does not come back\n"]);
  // The client has tried again and was refused for good.
  expect(await victim.closed()).toBeInstanceOf(Error);
  expect(performance.now() - before).toBeLessThan(cutMsMax);
  await expect(entered(lost)).rejects.toMatchObject({ code: "not-let-in" });
  await vi.waitFor(async () => expect(await online()).not.toContain("lost"), withinMs);
  await heard(neighbour, "kept");
  expect(disconnections).toEqual([]);
  expect((await farm.cli("agent", "ls")).out).toMatch(/lost +compile +revoked/);
  expect((await farm.cli("agent", "revoke", "nobody")).code).toBe(2);
});

test("the build of a revoked agent goes on elsewhere", async () => {
  const scripted = async (name: string, idleSince: number) => {
    const connection = await entered(await enrolled(name));
    const door = { open: () => askForLane(connection, agentNamed(name), "compile", 1), apiPrefix: edgeApiPrefix };
    return new ScriptedAgent(connection, "compile", name, { idleSince }, door);
  };
  await using lost = await scripted("lost", 1);
  await using kept = await scripted("kept", 2);
  await vi.waitFor(async () => expect((await online()).toSorted()).toEqual(["kept", "lost"]), withinMs);
  await farm.ask("accepted", { v: 1, kind: "submit", chains: [buildRequest(1)] });
  const first = await lost.next();
  expect(await first.claim()).toMatchObject({ verdict: "go" });
  await farm.ask("agent-revoked", { v: 1, kind: "revoke-agent", agent: lost.id });
  const second = await kept.next();
  expect(second.dispatch).toMatchObject({ chain: chainNumber(1), attempt: 2 });
  expect(await second.claim()).toMatchObject({ verdict: "go" });
  expect(await second.report(built())).toMatchObject({ verdict: "noted" });
});

test("what a revoked agent asks is refused, also while its connection is there", async () => {
  const lost = await enrolled("lost");
  const agent = agentNamed("lost");
  await farm.ask("agent-revoked", { v: 1, kind: "revoke-agent", agent });
  // A token of the farm's own for keys that nobody has revoked, as a server would take it that has not heard of it yet.
  const late = await farm.signIn({ kind: "agent", agent, lane: "compile" });
  const answer = await askCoordinator(late, agent, { v: 1, kind: "open-lane", lane: "compile", slots: 1 });
  expect(answer).toMatchObject({ verdict: "drop", reason: expect.stringContaining("revoked") });
  await expect(entered(lost)).rejects.toMatchObject({ code: "not-let-in" });
});

test("a server that has forgotten is told again, by the coordinator that stays and by one that begins", async () => {
  const lost = await enrolled("lost");
  await farm.ask("agent-revoked", { v: 1, kind: "revoke-agent", agent: agentNamed("lost") });
  const isShutOut = () =>
    vi.waitFor(async () => {
      await expect(entered(lost)).rejects.toMatchObject({ code: "not-let-in" });
    }, withinMs);
  await farm.restartServer();
  await isShutOut();
  await farm.stopCoordinator();
  await farm.restartServer();
  // Nobody has told it yet.
  await (await entered(lost)).close();
  await farm.startCoordinator();
  await isShutOut();
});

test("whoever has lost its name to other keys is cut off", async () => {
  const first = await enrolled("attic");
  const connection = await entered(first);
  const second = await enrolled("attic");
  expect(await connection.closed()).toBeInstanceOf(Error);
  await heard(await entered(second), "attic");
});

test("two agents that are revoked in one second are both shut out", async () => {
  const both = [await enrolled("one"), await enrolled("two")];
  for (const name of ["one", "two"]) {
    await farm.ask("agent-revoked", { v: 1, kind: "revoke-agent", agent: agentNamed(name) });
  }
  for (const one of both) await expect(entered(one)).rejects.toMatchObject({ code: "not-let-in" });
});

test("an agent renews its token by itself, goes on with its connection, and comes back with the new token", async () => {
  const { path, credentials } = await enrolled("attic");
  farm.clock.jump(tokenMs / 2);
  await using renewal = new TokenRenewal(path, credentials, farm.clock, silentLog);
  const connection = await renewal.connect(farm.url, "attic");
  open.push(connection);
  await renewal.start();
  const renewed = await vi.waitFor(async () => {
    const now = await readCredentials(path);
    expect(now?.token).not.toBe(credentials.token);
    return now!;
  }, withinMs);
  expect(endOf(renewed.token)! - endOf(credentials.token)!).toBeGreaterThan(tokenMs / 2 - 60_000);
  expect({ ...renewed, token: "" }).toEqual({ ...credentials, token: "" });
  await connection.reconnect();
  await heard(connection, "attic");
});

test("an agent whose token has ended gets a new one as whoever has not signed in, and a revoked one does not", async () => {
  const { path, credentials } = await enrolled("attic");
  const { lane, agent } = credentials.role as Extract<Credentials["role"], { kind: "agent" }>;
  const user = fromSeed(new TextEncoder().encode(credentials.seed));
  const past = Math.floor(Date.now() / 1_000) - 60;
  const ended = await userToken(farm.keys, { kind: "agent", agent, lane }, user, past);
  const old = { ...credentials, token: ended };
  await expect(entered({ credentials: old })).rejects.toMatchObject({ code: "not-let-in" });
  const connection = await new TokenRenewal(path, old, farm.clock, silentLog).connect(farm.url, "attic");
  open.push(connection);
  await heard(connection, "attic");
  expect(endOf((await readCredentials(path))!.token)).toBeGreaterThan(Date.now());
  await farm.ask("agent-revoked", { v: 1, kind: "revoke-agent", agent });
  const refused = new TokenRenewal(path, old, farm.clock, silentLog).connect(farm.url, "attic");
  await expect(refused).rejects.toMatchObject({
    code: "not-let-in",
    message: expect.stringContaining("attic was revoked"),
  });
});
