/** Cancelling, before, while and after: what ends at once, what waits for its proof of death, and what comes too late. */
import { expect, test } from "vitest";
import {
  buildRequest,
  built,
  chainNumber,
  failedWith,
  failures,
  flashed,
  installRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

function farmWithAgents(): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  return farm;
}

test("a queued chain is cancelled at once, upload and all, and nothing is dispatched any more", () => {
  const farm = new TestFarm();
  farm.submit(installRequest(1));
  expect(farm.cancel(1)).toEqual({ jobs: ["upload", "compile"], tooLate: [] });
  expect(farm.states(1)).toBe("cancelled, cancelled");
  expect(farm.job(1, "compile").outcome).toEqual({ kind: "cancelled", cause: "request" });
  farm.compileAgent("bench");
  expect(farm.effects("dispatch")).toEqual([]);
});

test("a dispatched job that nobody has claimed is cancelled at once, and its claim is dropped", () => {
  const farm = farmWithAgents();
  farm.submit(buildRequest(1));
  farm.cancel(1);
  expect(farm.states(1)).toBe("cancelled");
  expect(farm.claim(1, "compile")).toBe("drop");
});

test("a running compile is stopped, and its held upload is cancelled at once", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.claim(1, "compile");
  farm.cancel(1);
  expect(farm.states(1)).toBe("cancelling, cancelled");
  expect(farm.effects("stop")).toEqual([
    { kind: "stop", agent: "bench", chain: chainNumber(1), job: "compile", attempt: 1 },
  ]);
  expect(farm.effects("archive")).toEqual([]);
});

test("a cancelling job ends with the report that everything is dead, and the first reason stays", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.claim(1, "compile");
  farm.cancel(1);
  farm.at += 700;
  farm.report(1, "compile", { kind: "stopped" });
  expect(farm.states(1)).toBe("cancelled, cancelled");
  expect(farm.job(1, "compile")).toMatchObject({ outcome: { kind: "cancelled", cause: "request" }, endedAt: farm.at });
  expect(farm.effects("archive")).toEqual([{ kind: "archive", chain: chainNumber(1) }]);
});

test("a build that succeeded while it was being cancelled stays cancelled and releases nothing", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.claim(1, "compile");
  farm.cancel(1);
  farm.report(1, "compile", built());
  expect(farm.states(1)).toBe("cancelled, cancelled");
});

test("a build that failed while it was being cancelled stays cancelled and is not tried again", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.claim(1, "compile");
  farm.cancel(1);
  farm.report(1, "compile", failedWith(failures.elsewhere));
  expect(farm.states(1)).toBe("cancelled, cancelled");
});

test("an upload that runs without its flash claim is stopped, and its flash claim is dropped", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.bringToUpload(1);
  expect(farm.cancel(1)).toMatchObject({ jobs: ["upload"], tooLate: [] });
  expect(farm.states(1)).toBe("succeeded, cancelling");
  expect(farm.claimFlash(1)).toBe("drop");
  expect(farm.upload(1).flashClaim).toBeUndefined();
  farm.report(1, "upload", { kind: "stopped" });
  expect(farm.states(1)).toBe("succeeded, cancelled");
});

test("a device that ran the build already makes a cancelled upload a success, because that is the truth", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.bringToUpload(1);
  farm.cancel(1);
  farm.report(1, "upload", { kind: "flashed", level: "running", wrote: false, flashMs: 0 });
  expect(farm.states(1)).toBe("succeeded, succeeded");
});

test("after the flash claim a cancel comes too late: it says so, stops nothing, and the flash goes on to its end", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.bringToUpload(1);
  farm.claimFlash(1);
  expect(farm.cancel(1)).toEqual({ jobs: [], tooLate: ["upload"] });
  expect(farm.effects("stop")).toEqual([]);
  expect(farm.last.changed.size).toBe(0);
  farm.report(1, "upload", flashed);
  expect(farm.states(1)).toBe("succeeded, succeeded");
});

test("a lost flash that waits to be probed cannot be cancelled either", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  farm.bringToUpload(1);
  farm.claimFlash(1);
  farm.vanish("pi");
  expect(farm.cancel(1)).toMatchObject({ jobs: [], tooLate: ["upload"] });
  expect(farm.states(1)).toBe("succeeded, queued");
});

test("a cancel of the upload alone leaves the build", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  expect(farm.cancel(1, "upload")).toMatchObject({ jobs: ["upload"] });
  expect(farm.states(1)).toBe("dispatched, cancelled");
  farm.claim(1, "compile");
  farm.report(1, "compile", built());
  expect(farm.states(1)).toBe("succeeded, cancelled");
});

test("a cancel of the compile alone takes its upload with it", () => {
  const farm = farmWithAgents();
  farm.submit(installRequest(1));
  expect(farm.cancel(1, "compile")).toMatchObject({ jobs: ["upload", "compile"] });
  expect(farm.states(1)).toBe("cancelled, cancelled");
});

test("cancelling what has ended, or is not there, is no error and changes nothing", () => {
  const farm = farmWithAgents();
  farm.submit(uploadRequest(1));
  farm.cancel(1);
  expect(farm.cancel(1)).toEqual({ jobs: [], tooLate: [] });
  expect(farm.last.changed.size).toBe(0);
  expect(farm.cancel(9)).toMatchObject({ jobs: [], tooLate: [] });
});

test("cancelling twice orders one stop", () => {
  const farm = farmWithAgents();
  farm.submit(buildRequest(1));
  farm.claim(1, "compile");
  farm.cancel(1);
  expect(farm.cancel(1)).toMatchObject({ jobs: ["compile"] });
  expect(farm.effects("stop")).toEqual([]);
  expect(farm.last.changed.size).toBe(0);
});

test("a configuration means all its live chains, also the older one whose flash has begun", () => {
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  farm.submit(installRequest(1, { configuration: "kitchen" }));
  farm.bringToUpload(1);
  farm.claimFlash(1);
  farm.submit(installRequest(2, { configuration: "kitchen" }), installRequest(3));
  expect(farm.cancelConfiguration("kitchen")).toEqual({
    kind: "cancelling",
    chains: [
      { chain: chainNumber(1), configuration: "kitchen", jobs: [], tooLate: ["upload"] },
      { chain: chainNumber(2), configuration: "kitchen", jobs: ["upload", "compile"], tooLate: [] },
    ],
  });
  expect(farm.states(3)).not.toContain("cancelled");
});

test("all means every live chain of the farm", () => {
  const farm = new TestFarm();
  farm.submit(installRequest(1), installRequest(2), installRequest(3));
  farm.cancel(2);
  const answer = farm.cancelAll();
  expect(answer).toMatchObject({ chains: [{ chain: chainNumber(1) }, { jobs: [] }, { chain: chainNumber(3) }] });
  expect([1, 2, 3].map((n) => farm.states(n))).toEqual(Array.from({ length: 3 }, () => "cancelled, cancelled"));
});
