/** What people ask of the farm, and the lines that they read. */
import { describe, expect, test } from "vitest";
import { explain } from "#coordinator/core/explain.ts";
import { agentViews, findChain, queueDepth } from "#coordinator/core/queries.ts";
import {
  buildRequest,
  chainNumber,
  failedWith,
  failures,
  installRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const linesOf = (farm: TestFarm, n: number) => explain(farm.farm, chainNumber(n), farm.at);

describe("explain says", () => {
  test("nothing of a chain that is not there", () => {
    expect(linesOf(new TestFarm(), 1)).toEqual([]);
  });

  test("that no agent has announced itself, and how to start one", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1));
    expect(linesOf(farm, 1)).toEqual([
      "compile: queued",
      "  1 of 1 in the queue: interactive, expected to take about 3 s where its tree is warm, about 60 s elsewhere",
      "  cannot start: no agent that is here may take it",
      "  no agent has announced itself: start one with `flashyard up`",
      "upload: held",
      "  waits for the compile of this chain, which is queued",
    ]);
  });

  test("for each agent of the lane why it cannot take the job", () => {
    const farm = new TestFarm();
    farm.compileAgent("busy");
    farm.compileAgent("away");
    farm.compileAgent("old", { makesEnvironments: false, esphomeVersions: ["2026.9.0"] });
    farm.uploadAgent("pi");
    farm.vanish("away");
    farm.submit(buildRequest(1), buildRequest(2));
    expect(linesOf(farm, 2)).toEqual([
      "compile: queued",
      "  1 of 1 in the queue: interactive, expected to take about 3 s where its tree is warm, about 60 s elsewhere",
      "  expected to start in about 60 s",
      "  busy is busy (1 of 1 slots, free in about 60 s)",
      "  away is away",
      "  old has no ESPHome 2026.10.0 and makes no environments",
    ]);
  });

  test("which agent a request is for, and that a machine has failed at it before", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi-1");
    farm.submit(uploadRequest(1, { on: "pi-2" }));
    expect(linesOf(farm, 1)).toContain("  pi-1 the job is for pi-2");
    farm.compileAgent("a");
    farm.compileAgent("b");
    farm.submit(buildRequest(2), buildRequest(3));
    farm.claim(2, "compile");
    farm.report(2, "compile", failedWith(failures.elsewhere));
    expect(linesOf(farm, 2)).toEqual([
      "compile: queued",
      "  earlier: g++ is missing on the build machine: not found",
      "  1 of 1 in the queue: interactive, expected to take about 3 s where its tree is warm, about 60 s elsewhere",
      "  expected to start in about 60 s",
      "  a failed here in an earlier attempt",
      "  b is busy (1 of 1 slots, free in about 60 s)",
    ]);
  });

  test("where a job runs and with which attempt", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(buildRequest(1));
    farm.claim(1, "compile");
    expect(linesOf(farm, 1)).toEqual([
      "compile: running on bench, attempt 1",
      "  has no tree there: expected to take about 60 s in all",
    ]);
    farm.compileAgent("bench", {
      warm: ["device 1"],
      holding: [{ chain: chainNumber(1), job: "compile", attempt: 1 }],
    });
    expect(linesOf(farm, 1)).toContain("  has its tree there: expected to take about 3 s in all");
  });

  test("how long a job still waits after a failure that may pass", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadRequest(1));
    farm.claim(1, "upload");
    farm.report(1, "upload", failedWith(failures.later));
    farm.at += 1_500;
    expect(linesOf(farm, 1)).toContain("  not before 4 s from now");
  });

  test("that another upload has the device, or an older build the tree", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench", { slots: 2 });
    farm.uploadAgent("pi", { slots: 2 });
    farm.submit(uploadRequest(1, { host: "10.0.0.7" }), uploadRequest(2, { host: "10.0.0.7" }));
    expect(linesOf(farm, 2)).toContain("  another upload to 10.0.0.7:3232 has not ended");
    farm.submit(buildRequest(3, { configuration: "kitchen" }));
    farm.claim(3, "compile");
    farm.submit(buildRequest(4, { configuration: "kitchen" }));
    expect(linesOf(farm, 4)).toContain("  an older build of this configuration is still ending");
  });

  test("that a flash is past the point of no return, was lost, and that its agent is back and still at it", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadRequest(1));
    farm.claim(1, "upload");
    farm.claimFlash(1);
    expect(linesOf(farm, 1)).toEqual([
      "upload: running on pi, attempt 1",
      "  past the point of no return: the flash ends before anything else happens",
    ]);
    farm.vanish("pi");
    farm.uploadAgent("pi", { holding: [{ chain: chainNumber(1), job: "upload", attempt: 1 }] });
    const lines = linesOf(farm, 1);
    expect(lines).toContain("  an earlier attempt may have flashed: the device will be asked");
    expect(lines).toContain("  pi was taken for lost, is back and still at it");
    expect(lines).toContain(
      "  earlier: agent pi was lost while it worked; whether the device took the image is not known",
    );
  });

  test("how a job ended", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", failedWith(failures.final));
    expect(linesOf(farm, 1)).toEqual([
      "compile: failed on bench, attempt 1",
      "  the build failed (exit code 1)",
      "upload: cancelled",
      "  cancelled: prerequisite-failed",
    ]);
  });
});

describe("findChain", () => {
  const farm = new TestFarm();
  farm.submit(installRequest(1, { configuration: "kitchen" }));
  farm.submit(installRequest(2, { configuration: "kitchen" }));
  farm.submit(installRequest(3, { configuration: "kitchen.compile" }));
  const chains = [...farm.farm.chains.values()];
  const found = (reference: string) => {
    const result = findChain(chains, reference);
    return result === undefined ? undefined : [result.chain.id, result.job];
  };

  test("finds a chain by its id", () => expect(found(chainNumber(1))).toEqual([chainNumber(1), undefined]));
  test("finds the newest chain of a configuration", () =>
    expect(found("kitchen")).toEqual([chainNumber(2), undefined]));
  test("finds a job by chain id and name", () =>
    expect(found(`${chainNumber(1)}.upload`)).toEqual([chainNumber(1), "upload"]));
  test("finds a job by configuration and name", () =>
    expect(found("kitchen.upload")).toEqual([chainNumber(2), "upload"]));
  test("prefers a configuration that is really called so", () =>
    expect(found("kitchen.compile")).toEqual([chainNumber(3), undefined]));
  test("finds the job of a configuration with a dot in its name", () =>
    expect(found("kitchen.compile.compile")).toEqual([chainNumber(3), "compile"]));
  test.each(["cellar", "kitchen.flash", ".upload", ""])("finds nothing for %j", (reference) =>
    expect(found(reference)).toBeUndefined(),
  );
});

test("the depth of the queue counts what waits for a slot and not what is held", () => {
  const farm = new TestFarm();
  farm.submit(installRequest(1), buildRequest(2), uploadRequest(3));
  expect(queueDepth(farm.farm)).toBe(3);
  farm.compileAgent("bench");
  expect(queueDepth(farm.farm)).toBe(2);
});

test("an agent is shown with its load, its presence, and when it was heard", () => {
  const farm = new TestFarm();
  farm.compileAgent("bench", { slots: 2 });
  farm.uploadAgent("pi");
  farm.submit(buildRequest(1));
  farm.vanish("pi");
  const { at } = farm;
  expect(agentViews(farm.farm)).toMatchObject([
    { announcement: { agent: "bench" }, busy: 1, online: true, seenAt: at },
    { announcement: { agent: "pi" }, busy: 0, online: false, seenAt: at },
  ]);
});
