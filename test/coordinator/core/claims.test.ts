/** Claims, flash claims and reports: only the attempt in hand is heard, and hearing it twice changes nothing. */
import { describe, expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import {
  buildRequest,
  built,
  failedWith,
  failures,
  flashed,
  installRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { type FromOptions, TestFarm } from "#test/support/test-farm.ts";

function farmWith(...requests: readonly ChainRequest[]): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  farm.submit(...requests);
  return farm;
}

describe("the claim", () => {
  test("a claim of a dispatched job is answered with go, and the job runs from that instant", () => {
    const farm = farmWith(buildRequest(1));
    farm.at += 3;
    expect(farm.claim(1, "compile")).toBe("go");
    expect(farm.job(1, "compile")).toMatchObject({ state: "running", startedAt: farm.at });
  });

  test("a claim that is repeated by the same boot is answered with go again and changes nothing", () => {
    const farm = farmWith(buildRequest(1));
    farm.claim(1, "compile");
    farm.at += 1_000;
    expect(farm.claim(1, "compile")).toBe("go");
    expect(farm.last.changed.size).toBe(0);
  });

  test("a job dispatched to an agent's former boot can be claimed by its next one, which is then its boot", () => {
    const farm = farmWith(buildRequest(1));
    expect(farm.claim(1, "compile", { boot: 2 })).toBe("go");
    expect(farm.job(1, "compile").assigned).toEqual({ agent: "bench", boot: "boot0002" });
  });

  test.each<[string, FromOptions]>([
    ["another agent", { agent: "intruder" }],
    ["another boot, once the job runs,", { boot: 2 }],
    ["an attempt that is over", { attempt: 1 }],
    ["an attempt that was never made", { attempt: 3 }],
  ])("a claim by %s is dropped and changes nothing", (_whom, from) => {
    const farm = farmWith(buildRequest(1));
    farm.claim(1, "compile");
    farm.vanish("bench");
    farm.compileAgent("bench");
    farm.claim(1, "compile");
    expect(farm.job(1, "compile")).toMatchObject({ state: "running", attempt: 2 });
    expect(farm.claim(1, "compile", from)).toBe("drop");
    expect(farm.last.changed.size).toBe(0);
  });

  test("a claim of a job that is queued, has ended, or is unknown is dropped", () => {
    const farm = farmWith(buildRequest(1), buildRequest(2));
    expect(farm.claim(2, "compile", { agent: "bench" })).toBe("drop");
    farm.claim(1, "compile");
    farm.report(1, "compile", built());
    expect(farm.claim(1, "compile", { agent: "bench" })).toBe("drop");
    expect(farm.claim(7, "compile", { agent: "bench" })).toBe("drop");
  });
});

describe("the flash claim", () => {
  test("a flash claim is given to a running upload and kept in its record", () => {
    const farm = farmWith(installRequest(1));
    farm.bringToUpload(1);
    farm.at += 10;
    expect(farm.claimFlash(1)).toBe("go");
    expect(farm.upload(1).flashClaim).toEqual({ attempt: 1, at: farm.at });
  });

  test("a flash claim that is repeated by the same attempt is answered with go again and changes nothing", () => {
    const farm = farmWith(installRequest(1));
    farm.bringToUpload(1);
    farm.claimFlash(1);
    expect(farm.claimFlash(1)).toBe("go");
    expect(farm.last.changed.size).toBe(0);
  });

  test("a flash claim is given once in the life of a job: no later attempt gets one", () => {
    const farm = farmWith(installRequest(1));
    farm.bringToUpload(1);
    farm.claimFlash(1);
    farm.uploadAgent("pi", { boot: 2 });
    farm.pass(1_000);
    farm.claim(1, "upload");
    expect(farm.upload(1)).toMatchObject({ attempt: 2, mode: "probe", state: "running" });
    expect(farm.claimFlash(1)).toBe("drop");
    expect(farm.upload(1).flashClaim?.attempt).toBe(1);
  });

  test.each<[string, FromOptions]>([
    ["another agent", { agent: "intruder" }],
    ["another boot", { boot: 9 }],
    ["an older attempt", { attempt: 1 }],
  ])("a flash claim by %s is dropped", (_whom, from) => {
    const farm = farmWith(installRequest(1));
    farm.bringToUpload(1);
    farm.vanish("pi");
    farm.uploadAgent("pi");
    farm.claim(1, "upload");
    expect(farm.upload(1)).toMatchObject({ attempt: 2, mode: "flash", state: "running" });
    expect(farm.claimFlash(1, from)).toBe("drop");
    expect(farm.upload(1).flashClaim).toBeUndefined();
  });

  test("a flash claim before the claim is dropped", () => {
    const farm = farmWith(uploadRequest(1));
    expect(farm.upload(1).state).toBe("dispatched");
    expect(farm.claimFlash(1)).toBe("drop");
  });
});

describe("the report", () => {
  test("a report is always noted, so that its agent forgets it, and heard only from the attempt in hand", () => {
    const farm = farmWith(installRequest(1));
    farm.claim(1, "compile");
    for (const from of [{ agent: "intruder" }, { attempt: 2 }]) {
      expect(farm.report(1, "compile", built(), from)).toBe("noted");
      expect(farm.states(1)).toBe("running, held");
    }
    expect(farm.report(9, "compile", built())).toBe("noted");
    expect(farm.last.changed.size).toBe(0);
  });

  test("a report of an attempt that was taken for lost changes nothing", () => {
    const farm = farmWith(installRequest(1));
    farm.claim(1, "compile");
    farm.vanish("bench");
    farm.compileAgent("bench");
    farm.report(1, "compile", built(), { agent: "bench", attempt: 1 });
    expect(farm.states(1)).toBe("dispatched, held");
    expect(farm.job(1, "compile").attempt).toBe(2);
  });

  test("a result that was reported twice counts once", () => {
    const farm = farmWith(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", built("first"));
    const before = farm.farm;
    farm.report(1, "compile", built("second"), { agent: "bench", attempt: 1 });
    expect(farm.farm).toBe(before);
  });

  test("an agent's next boot may report what its former one has finished", () => {
    const farm = farmWith(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", built(), { boot: 2 });
    expect(farm.states(1)).toBe("succeeded, dispatched");
  });

  test("a report of a dispatched job proves that it ran", () => {
    const farm = farmWith(uploadRequest(1));
    farm.report(1, "upload", flashed);
    expect(farm.states(1)).toBe("succeeded");
    expect(farm.job(1, "upload").startedAt).toBe(farm.at);
  });

  test("a result of the other lane is an error of the agent and never a success", () => {
    const farm = farmWith(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", flashed);
    expect(farm.states(1)).toBe("failed, cancelled");
    expect(farm.job(1, "compile").outcome).toMatchObject({ failure: { kind: "internal" } });
  });

  test("what comes after the end changes nothing: a terminal job stays as it is", () => {
    const farm = farmWith(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", failedWith(failures.final));
    const before = farm.farm;
    farm.claim(1, "compile", { agent: "bench" });
    farm.report(1, "compile", built(), { agent: "bench" });
    farm.cancel(1);
    expect(farm.farm).toBe(before);
  });
});
