/** A device that was flashed is asked once more: it may have gone back to the build before. */
import { describe, expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import { isFinished } from "#protocol/chain.ts";
import { leaseMs } from "#protocol/limits.ts";
import { explain } from "#coordinator/core/explain.ts";
import { deviceRecordOf } from "#coordinator/core/device-records.ts";
import {
  built,
  chainNumber,
  confirmed,
  failedWith,
  failures,
  flashed,
  installRequest,
  type RequestOptions,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const afterMs = 60_000;

function confirmedInstall(n: number, options: RequestOptions = {}): ChainRequest {
  const request = installRequest(n, options);
  const { upload } = request;
  if (upload?.target.kind !== "ota") return request;
  const target = { ...upload.target, api: { port: 6053 } };
  return { ...request, upload: { ...upload, target, confirmAfterMs: afterMs } };
}

/** A farm whose first chain has been flashed. */
function flashedFarm(...more: readonly ChainRequest[]): TestFarm {
  const farm = new TestFarm();
  farm.submit(confirmedInstall(1), ...more);
  farm.compileAgent("bench", { slots: 4 });
  farm.uploadAgent("pi", { slots: 4 });
  flash(farm, 1);
  return farm;
}

function flash(farm: TestFarm, n: number): void {
  farm.claim(n, "compile");
  farm.report(n, "compile", built(`build ${n}`));
  farm.claim(n, "upload");
  farm.claimFlash(n);
  farm.report(n, "upload", flashed);
}

/** Time passes, and the agents stay. */
function pass(farm: TestFarm, ms: number): void {
  farm.at += ms;
  farm.compileAgent("bench", { slots: 4 });
  farm.uploadAgent("pi", { slots: 4 });
  farm.pass(0);
}

describe("a confirmation", () => {
  test("is held until its upload has succeeded and its time has come, and takes no slot meanwhile", () => {
    const farm = flashedFarm();
    expect(farm.job(1, "confirm").state).toBe("held");
    pass(farm, afterMs - 1);
    expect(farm.job(1, "confirm").state).toBe("held");
    expect(explain(farm.farm, chainNumber(1), farm.at).join("\n")).toContain(
      "then asks the device whether it still runs",
    );
    pass(farm, 1);
    expect(farm.job(1, "confirm")).toMatchObject({ state: "dispatched", assigned: { agent: "pi" } });
    farm.claim(1, "confirm");
    farm.report(1, "confirm", confirmed);
    expect(isFinished(farm.chain(1))).toBe(true);
    expect(deviceRecordOf(farm.chain(1))).toMatchObject({ state: "succeeded", level: "confirmed" });
  });

  test("of a device that went back to its build before makes that known, and is not tried again", () => {
    const farm = flashedFarm();
    pass(farm, afterMs);
    farm.claim(1, "confirm");
    farm.report(1, "confirm", failedWith(failures.rolledBack));
    expect(farm.job(1, "confirm")).toMatchObject({ state: "failed", outcome: { failure: { kind: "rolled-back" } } });
    expect(deviceRecordOf(farm.chain(1))).toMatchObject({ state: "rolled-back" });
  });

  test("of a device that does not answer leaves open what it runs", () => {
    const farm = flashedFarm();
    pass(farm, afterMs);
    farm.claim(1, "confirm");
    farm.report(1, "confirm", failedWith(failures.notVerified));
    expect(farm.job(1, "confirm").state).toBe("unknown");
    expect(farm.job(1, "upload").state).toBe("succeeded");
  });

  test("whose agent is lost is asked for again: it writes nothing", () => {
    const farm = flashedFarm();
    pass(farm, afterMs);
    farm.claim(1, "confirm");
    farm.vanish("pi");
    farm.pass(leaseMs);
    farm.uploadAgent("attic");
    expect(farm.job(1, "confirm")).toMatchObject({ state: "dispatched", attempt: 2, assigned: { agent: "attic" } });
  });

  test("goes by preference to the agent that flashed the device", () => {
    const farm = flashedFarm();
    farm.uploadAgent("attic", { idleSince: 0 });
    farm.at += afterMs;
    farm.uploadAgent("pi", { slots: 4 });
    farm.pass(0);
    expect(farm.job(1, "confirm").assigned?.agent).toBe("pi");
  });

  test.each([
    ["the device could not be asked", { ...flashed, level: "committed" as const }, "not-askable"],
    ["the flash failed", failedWith(failures.partial), "prerequisite-failed"],
    ["nobody knows how the flash ended", failedWith(failures.notVerified), "prerequisite-unknown"],
  ])("is cancelled when %s", (_why, result, cause) => {
    const farm = new TestFarm();
    farm.submit(confirmedInstall(1));
    farm.compileAgent("bench");
    farm.uploadAgent("pi");
    farm.bringToUpload(1);
    farm.claimFlash(1);
    farm.report(1, "upload", result);
    expect(farm.job(1, "confirm")).toMatchObject({ state: "cancelled", outcome: { cause } });
    expect(farm.last.effects.some(({ kind }) => kind === "archive")).toBe(true);
  });

  test("gives way to a newer request for its configuration", () => {
    const farm = flashedFarm();
    farm.submit(confirmedInstall(2, { configuration: "device 1" }));
    expect(farm.job(1, "confirm")).toMatchObject({ state: "cancelled", outcome: { cause: "superseded" } });
  });

  test("gives way to another configuration that is flashed to the same device", () => {
    const other = confirmedInstall(2, { configuration: "copy", host: "device-1.local" });
    const farm = flashedFarm(other);
    flash(farm, 2);
    expect(farm.job(1, "confirm")).toMatchObject({ state: "cancelled", outcome: { cause: "flashed-again" } });
    expect(farm.job(2, "confirm").state).toBe("held");
  });

  test("keeps another image from its device while it is asked", () => {
    const farm = flashedFarm();
    pass(farm, afterMs);
    farm.claim(1, "confirm");
    farm.submit(confirmedInstall(2, { configuration: "copy", host: "device-1.local" }));
    farm.claim(2, "compile");
    farm.report(2, "compile", built("build 2"));
    expect(farm.job(2, "upload").state).toBe("queued");
    farm.report(1, "confirm", confirmed);
    expect(farm.job(2, "upload").state).toBe("dispatched");
  });

  test("is not asked for where the device has no API", () => {
    const farm = new TestFarm();
    const request = installRequest(1);
    farm.submit(
      request.upload === undefined ? request : { ...request, upload: { ...request.upload, confirmAfterMs: afterMs } },
    );
    expect(farm.chain(1).confirm).toBeUndefined();
  });
});

test("a cancelled upload takes its confirmation along, and a flash that goes on keeps it", () => {
  const farm = new TestFarm();
  farm.submit(confirmedInstall(1));
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  farm.bringToUpload(1);
  farm.claimFlash(1);
  expect(farm.cancel(1)).toEqual({ jobs: [], tooLate: ["upload"] });
  farm.report(1, "upload", flashed);
  expect(farm.job(1, "confirm").state).toBe("held");
  expect(farm.cancel(1, "upload")).toEqual({ jobs: ["confirm"], tooLate: [] });
});
