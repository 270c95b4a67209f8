/** Agents of a farm with identity: enrolled over a real server, and heard only when they are in the registry. */
import { createUser } from "@nats-io/nkeys";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { announce } from "#bus/presence.ts";
import type { Lane } from "#protocol/job.ts";
import { agentNamed, statementOf } from "#test/support/farm-builders.ts";
import { IdentifiedFarm } from "#test/support/identified-farm.ts";

const withinMs = 8_000;

let farm: IdentifiedFarm;
beforeAll(async () => void (farm = await IdentifiedFarm.start()));
afterAll(() => farm[Symbol.asyncDispose]());

async function enrolled(name: string, lane: Lane) {
  const user = createUser();
  const agent = agentNamed(name);
  const identity = { agent, lane, user: user.getPublicKey(), seal: "s".repeat(43), host: "attic" };
  const { token } = await farm.ask("enrolled", { v: 1, kind: "enrol-agent", ...identity });
  return farm.connect({ kind: "agent", agent, lane }, token, user);
}

const known = async () =>
  (await farm.ask("agents", { v: 1, kind: "agents" })).agents.map(({ announcement }) => announcement.agent).sort();

test("an enrolled agent gets in with its token and is heard, also by the next coordinator; one without a record is not", async () => {
  const builder = await enrolled("builder", "compile");
  // Its token is good, but no record says so.
  const stray = await farm.signIn({ kind: "agent", agent: agentNamed("stray"), lane: "compile" });
  const second = await enrolled("second", "upload");
  const state = async () => {
    announce(stray, statementOf("stray", "compile"));
    await stray.flush();
    announce(builder, statementOf("builder", "compile"));
    announce(second, statementOf("second", "upload"));
  };
  const isHeard = () =>
    vi.waitFor(async () => {
      await state();
      expect(await known()).toEqual(["builder", "second"]);
    }, withinMs);
  await isHeard();
  await farm.replaceCoordinator();
  await isHeard();
});

test("an agent that states another lane than its own is not heard", async () => {
  const liar = await enrolled("liar", "upload");
  const honest = await enrolled("honest", "compile");
  announce(liar, statementOf("liar", "compile"));
  await liar.flush();
  await vi.waitFor(async () => {
    announce(honest, statementOf("honest", "compile"));
    expect(await known()).toContain("honest");
  }, withinMs);
  expect(await known()).not.toContain("liar");
});
