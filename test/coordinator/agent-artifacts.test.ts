/** What an agent has built, by the command line against a real server and coordinator. */
import { expect, test } from "vitest";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { newAgentSecrets, publicKeysOf } from "#bus/identity/agent-keys.ts";
import { agentNamed, built, chainNumber, installRequest } from "#test/support/farm-builders.ts";
import { IdentifiedFarm } from "#test/support/identified-farm.ts";
import { TestFarm } from "#test/support/test-farm.ts";

test("the builds of an agent are listed, and blocked until they are trusted again, also by the next coordinator", async () => {
  await using farm = await IdentifiedFarm.start();
  const agent = agentNamed("bad");
  const identity = { agent, lane: "compile" as const, ...publicKeysOf(newAgentSecrets()), host: "pi" };
  await farm.ask("enrolled", { v: 1, kind: "enrol-agent", ...identity });
  const model = new TestFarm();
  model.compileAgent("bad");
  model.submit(installRequest(1));
  model.claim(1, "compile");
  model.report(1, "compile", built());
  const chain = model.farm.chains.get(chainNumber(1))!;
  const history = coordinatorPorts(await farm.signIn({ kind: "coordinator" })).history;
  await history.putAll(new Map([[chain.id, chain]]));
  const listed = await farm.cli("agent", "artifacts", "bad");
  expect(listed).toMatchObject({ code: 0, err: "", out: expect.stringContaining(chain.id) });
  expect((await farm.cli("agent", "artifacts", "bad", "--block")).err).toContain("bad is blocked");
  await farm.ask("agent-revoked", { v: 1, kind: "revoke-agent", agent });
  await farm.replaceCoordinator();
  expect((await farm.cli("agent", "artifacts", "bad")).err).toContain("bad is blocked");
  expect(await farm.cli("agent", "artifacts", "bad", "--unblock")).toMatchObject({ code: 0, err: "" });
  await farm.replaceCoordinator();
  const { isBlocked } = await farm.ask("agent-artifacts", { v: 1, kind: "agent-artifacts", agent });
  expect(isBlocked).toBe(false);
  const nobody = await farm.cli("agent", "artifacts", "nobody", "--block");
  expect(nobody).toMatchObject({ code: 2, err: expect.stringContaining("no agent nobody") });
  expect((await farm.cli("agent", "artifacts", "bad", "--block", "--unblock")).code).toBe(2);
});
