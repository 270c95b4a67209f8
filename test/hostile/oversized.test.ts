/** A report that fits into a message, and whose record would not. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { built, installRequest } from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

let farm: ServedFarm;
beforeAll(async () => {
  farm = await ServedFarm.start();
});
afterAll(() => farm[Symbol.asyncDispose]());

test("a report that would make a record too large is dropped in words, and the coordinator goes on", async () => {
  const builder = await farm.agent("compile", "builder");
  await farm.submit(installRequest(1));
  const compile = await builder.next();
  expect(await compile.claim()).toMatchObject({ verdict: "go" });
  const result = built();
  if (result.kind !== "built") return;
  const manifest = { ...result.manifest, tool: { name: "x".repeat(8 * 1024 * 1024 - 900), version: "1" } };
  const answer = await compile.report({ ...result, manifest });
  expect(answer).toMatchObject({ verdict: "drop" });
  expect(await farm.status()).toMatchObject({ live: 1 });
  expect(await compile.report(result)).toMatchObject({ verdict: "noted" });
});

test("a request for a chain that would be too large is refused", async () => {
  const request = installRequest(2);
  const upload = { ...request.upload!, target: { ...request.upload!.target, password: "x".repeat(300_000) } };
  const answer = await farm.ask("refused", { v: 1, kind: "submit", chains: [{ ...request, upload }] });
  expect(answer.code).toMatch(/too-large|not-understood/);
});
