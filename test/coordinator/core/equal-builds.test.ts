/** Equal requests are built once. */
import { expect, test } from "vitest";
import type { Knowledge } from "#coordinator/core/knowledge.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import { buildKey, buildRecordOf, reusable, reuseMsMax } from "#coordinator/core/reuse.ts";
import type { ChainRequest } from "#protocol/admin.ts";
import {
  agentNamed,
  buildRequest,
  buildSpec,
  built,
  chainNumber,
  failedWith,
  failures,
  flashed,
  installRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** Two builders, and chain 1 building bundle 7. */
function building(request: ChainRequest = installRequest(1, { bundle: 7 })): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("builder-1");
  farm.compileAgent("builder-2");
  farm.submit(request);
  farm.claim(1, "compile");
  return farm;
}

/** What a farm knows that has built these. */
function knowing(farm: TestFarm, ...chains: readonly number[]): Knowledge {
  const records = chains.flatMap((n) => buildRecordOf(farm.chain(n)) ?? []);
  return { ...noKnowledge, builds: new Map(records.map((record) => [record.key, record])) };
}

test("an equal build that is under way is waited for, and its image is flashed on both devices", () => {
  const farm = building();
  farm.submit(installRequest(2, { bundle: 7 }));
  expect(farm.job(2, "compile").state).toBe("queued");
  farm.report(1, "compile", built());
  expect(farm.job(2, "compile")).toMatchObject({
    state: "succeeded",
    attempt: 0,
    outcome: { kind: "built", reusedFrom: chainNumber(1), buildMs: 0 },
  });
  expect(farm.job(2, "upload").state).toBe("queued");
});

test("when the build that others wait for fails, one of them is built, and then serves the rest", () => {
  const farm = building();
  farm.submit(buildRequest(2, { bundle: 7 }), buildRequest(3, { bundle: 7 }));
  farm.report(1, "compile", failedWith(failures.final));
  expect([2, 3].map((n) => farm.job(n, "compile").state)).toEqual(["dispatched", "queued"]);
  farm.claim(2, "compile");
  farm.report(2, "compile", built());
  expect(farm.job(3, "compile")).toMatchObject({ state: "succeeded", outcome: { reusedFrom: chainNumber(2) } });
});

test("a build that is being cancelled is waited for by nobody", () => {
  const farm = building();
  farm.submit(buildRequest(2, { bundle: 7 }));
  farm.cancel(1);
  farm.pass(1);
  expect(farm.job(1, "compile").state).toBe("cancelling");
  expect(farm.job(2, "compile").state).toBe("dispatched");
});

test("a request for what was built lately has it at once, and its upload waits for a slot and nothing else", () => {
  const farm = building(buildRequest(1, { bundle: 7 }));
  farm.report(1, "compile", built());
  farm.farm = { ...farm.farm, knowledge: knowing(farm, 1) };
  farm.submit(buildRequest(3, { bundle: 7 }));
  expect(farm.job(3, "compile")).toMatchObject({ state: "succeeded", outcome: { reusedFrom: chainNumber(1) } });
  expect(farm.last.effects).toContainEqual({ kind: "archive", chain: chainNumber(3) });
  farm.uploadAgent("flasher");
  farm.submit(installRequest(4, { bundle: 7 }));
  expect(farm.job(4, "upload").state).toBe("dispatched");
});

test("the end of a flash is no end of a build: what waits for a builder then is still built", () => {
  const farm = building();
  farm.report(1, "compile", built());
  farm.uploadAgent("flasher");
  farm.claim(1, "upload");
  farm.claimFlash(1);
  farm.submit(buildRequest(5), buildRequest(6));
  farm.submit(buildRequest(7, { bundle: 7 }));
  expect(farm.job(7, "compile").state).toBe("queued");
  farm.report(1, "upload", flashed);
  expect(farm.job(7, "compile").state).toBe("queued");
});

test("--rebuild builds, whatever is there or under way", () => {
  const farm = building();
  farm.submit({ ...buildRequest(2, { bundle: 7 }), isRebuild: true });
  expect(farm.job(2, "compile").state).toBe("dispatched");
  farm.report(1, "compile", built());
  farm.farm = { ...farm.farm, knowledge: knowing(farm, 1) };
  farm.submit({ ...buildRequest(3, { bundle: 7 }), isRebuild: true });
  expect(farm.job(3, "compile").state).toBe("dispatched");
});

test("nothing is reused while a clean takes the trees away", () => {
  const farm = building(buildRequest(1, { configuration: "lamp", bundle: 7 }));
  farm.report(1, "compile", built());
  farm.farm = { ...farm.farm, knowledge: knowing(farm, 1) };
  farm.compileAgent("builder-1", { warm: ["lamp"] });
  farm.clean(5, "lamp");
  farm.submit(buildRequest(6, { configuration: "lamp", bundle: 7 }));
  expect(farm.job(6, "compile").state).toBe("queued");
});

test("a build is too old after a day", () => {
  const farm = building();
  farm.report(1, "compile", built());
  const knowledge = knowing(farm, 1);
  const key = buildKey(buildSpec("2026.10.0", 7));
  const builtAt = knowledge.builds.get(key)?.builtAt ?? 0;
  expect(reusable(knowledge, key, builtAt + reuseMsMax - 1)?.chain).toBe(chainNumber(1));
  expect(reusable(knowledge, key, builtAt + reuseMsMax)).toBeUndefined();
});

test("what was reused is no source for the farm's memory", () => {
  const farm = building();
  farm.submit(buildRequest(2, { bundle: 7 }));
  farm.report(1, "compile", built());
  expect([1, 2].map((n) => buildRecordOf(farm.chain(n))?.agent)).toEqual(["builder-1", undefined]);
});

test("everything that can change what comes out makes another build", () => {
  const route = { on: agentNamed("builder-1"), labels: [] };
  const command = { driver: "command" as const, bundle: buildSpec().bundle, platform: "generic" };
  const keys = [
    buildKey(buildSpec("2026.10.0", 1)),
    buildKey(buildSpec("2026.10.0", 2)),
    buildKey(buildSpec("2026.9.0", 1)),
    buildKey(buildSpec("2026.10.0", 1), route),
    buildKey(buildSpec("2026.10.0", 1), { labels: [], sandbox: "bubblewrap" }),
    buildKey({ ...buildSpec(), driver: "esphome", version: "2026.10.0", entry: "other.yaml" }),
    buildKey({ ...buildSpec(), driver: "esphome", version: "2026.10.0", entry: "device.yaml", keepsDebug: true }),
    buildKey({ ...command, argv: ["make"], artifacts: ["*.bin"] }),
    buildKey({ ...command, argv: ["make", "all"], artifacts: ["*.bin"] }),
    buildKey({ ...command, argv: ["make"], artifacts: ["*.elf"] }),
    buildKey({ ...command, argv: ["make"], artifacts: ["*.bin"], platform: "avr" }),
  ];
  expect(new Set(keys).size).toBe(keys.length);
});
