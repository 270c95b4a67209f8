/** How an attempt's end becomes the job's: tried again, elsewhere or later, ended, or unknown. */
import { describe, expect, test } from "vitest";
import {
  buildRequest,
  failedWith,
  failures,
  flashed,
  installRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";
import type { Failure } from "#protocol/failure.ts";
import { attemptsMax, backoffMs, backoffMsMax, leaseMs } from "#protocol/limits.ts";

describe("a failure that another machine may not share", () => {
  test("sends the job elsewhere at once, and never back", () => {
    const farm = new TestFarm();
    farm.compileAgent("without");
    farm.compileAgent("x-with");
    farm.submit(buildRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", failedWith(failures.elsewhere));
    expect(farm.job(1, "compile")).toMatchObject({
      state: "dispatched",
      attempt: 2,
      assigned: { agent: "x-with" },
      avoid: ["without"],
      earlier: [failures.elsewhere],
    });
  });

  test("waits for the other machine while that is busy", () => {
    const farm = new TestFarm();
    farm.compileAgent("a");
    farm.compileAgent("b");
    farm.submit(buildRequest(1), buildRequest(2));
    farm.claim(1, "compile");
    farm.report(1, "compile", failedWith(failures.elsewhere));
    expect(farm.states(1)).toBe("queued");
  });

  test("comes back when the other machine has gone for good", () => {
    const farm = new TestFarm();
    farm.compileAgent("a");
    farm.compileAgent("b");
    farm.submit(buildRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", failedWith(failures.elsewhere));
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", assigned: { agent: "b" }, avoid: ["a"] });
    farm.vanish("b");
    expect(farm.job(1, "compile")).toMatchObject({ state: "queued", avoid: ["a"] });
    farm.pass(leaseMs - 1);
    expect(farm.states(1)).toBe("queued");
    farm.pass(1);
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", assigned: { agent: "a" }, avoid: [] });
  });

  test("ends the job when there is no other machine", () => {
    const farm = new TestFarm();
    farm.compileAgent("only");
    farm.submit(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", failedWith(failures.elsewhere));
    expect(farm.states(1)).toBe("failed, cancelled");
    expect(farm.job(1, "compile").outcome).toEqual({ kind: "failed", failure: failures.elsewhere });
  });
});

describe("a failure that may pass", () => {
  test("is tried again after the back-off, not before", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadRequest(1));
    farm.claim(1, "upload");
    farm.report(1, "upload", failedWith(failures.later));
    expect(farm.job(1, "upload")).toMatchObject({ state: "queued", notBeforeAt: farm.at + backoffMs });
    farm.pass(backoffMs - 1);
    expect(farm.states(1)).toBe("queued");
    farm.pass(1);
    expect(farm.job(1, "upload")).toMatchObject({ state: "dispatched", attempt: 2, mode: "flash" });
  });

  test("ends the job after so many attempts, with the last failure as its outcome and the earlier ones beside it", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadRequest(1));
    for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
      expect(farm.job(1, "upload")).toMatchObject({ state: "dispatched", attempt });
      farm.claim(1, "upload");
      farm.report(1, "upload", failedWith(failures.later));
      farm.pass(Math.min(backoffMs * 3 ** (attempt - 1), backoffMsMax));
    }
    expect(farm.states(1)).toBe("failed");
    expect(farm.job(1, "upload").earlier).toHaveLength(attemptsMax - 1);
  });

  test("a job that its agent gave back unasked is tried again", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(buildRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", { kind: "stopped" });
    expect(farm.states(1)).toBe("queued");
    farm.pass(backoffMs);
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", attempt: 2, avoid: [] });
  });
});

test("a failure that the same input meets everywhere ends the job at once", () => {
  const farm = new TestFarm();
  farm.compileAgent("a");
  farm.compileAgent("b");
  farm.submit(buildRequest(1));
  farm.claim(1, "compile");
  farm.report(1, "compile", failedWith(failures.final));
  expect(farm.states(1)).toBe("failed");
});

describe("what an upload's failure leaves on its device", () => {
  function claimed(): TestFarm {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadRequest(1));
    farm.claim(1, "upload");
    farm.claimFlash(1);
    return farm;
  }

  test.each<[string, Failure, string]>([
    ["nothing", failures.later, "failed"],
    ["a partial image", failures.partial, "failed"],
    ["perhaps the image", failures.uncertain, "unknown"],
    ["the image, and nobody can ask it", failures.notVerified, "unknown"],
    ["another build, as the device itself says", failures.notRunning, "failed"],
    ["whatever a bug of the agent had sent", failures.internal, "unknown"],
  ])("after the flash claim: %s", (_what, failure, state) => {
    const farm = claimed();
    farm.report(1, "upload", failedWith(failure));
    expect(farm.states(1)).toBe(state);
    expect(farm.job(1, "upload").outcome).toEqual({ kind: "failed", failure });
  });

  test("no failure after the flash claim is ever tried again", () => {
    for (const failure of Object.values(failures)) {
      const farm = claimed();
      farm.uploadAgent("other");
      farm.report(1, "upload", failedWith(failure));
      farm.pass(3_600_000);
      expect(["failed", "unknown"]).toContain(farm.states(1));
      expect(farm.effects("dispatch")).toEqual([]);
    }
  });

  test("a job that is given back after its flash claim ends too", () => {
    const farm = claimed();
    farm.report(1, "upload", { kind: "stopped" });
    expect(farm.states(1)).toBe("failed");
  });

  test("an unknown end never changes by a late report", () => {
    const farm = claimed();
    farm.report(1, "upload", failedWith(failures.uncertain));
    farm.report(1, "upload", flashed, { agent: "pi" });
    expect(farm.states(1)).toBe("unknown");
  });
});

describe("what a probe finds", () => {
  function probing(): TestFarm {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadRequest(1));
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.uploadAgent("pi", { boot: 2 });
    farm.pass(2_000);
    farm.claim(1, "upload");
    expect(farm.upload(1)).toMatchObject({ state: "running", mode: "probe" });
    return farm;
  }

  test("the new build: the lost flash was a success", () => {
    const farm = probing();
    farm.report(1, "upload", { kind: "flashed", level: "running", wrote: false, flashMs: 0 });
    expect(farm.states(1)).toBe("succeeded");
  });

  test("another build: the lost flash failed, and is not repeated", () => {
    const farm = probing();
    farm.report(1, "upload", failedWith(failures.notRunning));
    expect(farm.states(1)).toBe("failed");
  });

  test.each<[string, Failure]>([
    ["nobody at the address", failures.later],
    ["another device at the address", failures.wrongDevice],
    ["its own bug", failures.internal],
    ["nothing that it could tell", failures.uncertain],
  ])("%s: what the lost flash did stays unknown, though the probe touched nothing", (_what, failure) => {
    const farm = probing();
    farm.report(1, "upload", failedWith(failure));
    expect(farm.states(1)).toBe("unknown");
  });
});
