/** Agents are told ahead which bundle they will probably need. */
import { expect, test } from "vitest";
import { agentNamed, buildRequest, built, digestNumber } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

test("an agent that is given a build hears of the bundle that is next, each agent of another", () => {
  const farm = new TestFarm();
  farm.submit(...[1, 2, 3, 4].map((n) => buildRequest(n)));
  farm.compileAgent("builder-1");
  expect(farm.effects("prefetch")).toEqual([
    { kind: "prefetch", agent: agentNamed("builder-1"), bundle: digestNumber(2) },
  ]);
  farm.claim(1, "compile");
  farm.compileAgent("builder-2");
  farm.report(1, "compile", built());
  expect(farm.effects("prefetch").map(({ bundle }) => bundle)).toEqual([digestNumber(4)]);
});

test("nobody is told of a build that is for somebody else, or when nothing waits", () => {
  const farm = new TestFarm();
  const elsewhere = { on: agentNamed("builder-9"), labels: [] };
  farm.submit(buildRequest(1), { ...buildRequest(2), route: elsewhere });
  farm.compileAgent("builder-1");
  expect([farm.effects("dispatch").length, farm.effects("prefetch").length]).toEqual([1, 0]);
});
