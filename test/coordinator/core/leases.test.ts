/** Agents that vanish, restart, fall silent or come back, and what becomes of their jobs. Numbers cite `core/leases.ts`. */
import { describe, expect, test } from "vitest";
import type { HeldJob } from "#protocol/agent.ts";
import type { JobName } from "#protocol/ids.ts";
import { deviceDataTimeoutMs, leaseMs } from "#protocol/limits.ts";
import { emptyFarm } from "#coordinator/core/farm.ts";
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

const held = (n: number, job: JobName, attempt = 1): HeldJob => ({ chain: chainNumber(n), job, attempt });
const probeWaitMs = leaseMs + deviceDataTimeoutMs;

function building(): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.submit(installRequest(1));
  farm.claim(1, "compile");
  return farm;
}

function uploading(): TestFarm {
  const farm = new TestFarm();
  farm.uploadAgent("pi");
  farm.submit(uploadRequest(1));
  farm.claim(1, "upload");
  return farm;
}

function flashing(): TestFarm {
  const farm = uploading();
  farm.claimFlash(1);
  return farm;
}

describe("an agent that vanishes", () => {
  test("loses its build, which is compiled again at once as the next attempt (1)", () => {
    const farm = building();
    farm.compileAgent("other");
    farm.vanish("bench");
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", attempt: 2, assigned: { agent: "other" } });
    expect(farm.job(1, "compile").earlier).toEqual([{ kind: "agent-lost", agent: "bench", effect: "none" }]);
  });

  test("loses an upload without flash claim, which is uploaded again (1)", () => {
    const farm = uploading();
    farm.uploadAgent("other");
    farm.vanish("pi");
    expect(farm.upload(1)).toMatchObject({
      state: "dispatched",
      attempt: 2,
      mode: "flash",
      assigned: { agent: "other" },
    });
  });

  test("loses a flash, whose device is only asked, and not before lease and device time limit are over (2)", () => {
    const farm = flashing();
    farm.uploadAgent("other");
    farm.vanish("pi");
    expect(farm.upload(1)).toMatchObject({ state: "queued", mode: "probe", notBeforeAt: farm.at + probeWaitMs });
    farm.pass(probeWaitMs - 1);
    expect(farm.states(1)).toBe("queued");
    farm.pass(1);
    expect(farm.upload(1)).toMatchObject({ state: "dispatched", mode: "probe", attempt: 2 });
    farm.claim(1, "upload");
    expect(farm.claimFlash(1)).toBe("drop");
  });

  test("loses a probe, and the next one need not wait: the lost flash is dead by then (2)", () => {
    const farm = flashing();
    farm.uploadAgent("other");
    farm.vanish("pi");
    farm.pass(probeWaitMs);
    farm.vanish("other");
    expect(farm.upload(1)).toMatchObject({ state: "queued", mode: "probe", notBeforeAt: farm.at });
  });

  test("vanishes once, however often that is said", () => {
    const farm = building();
    farm.vanish("bench");
    const before = farm.farm;
    farm.vanish("bench");
    farm.vanish("never-heard-of");
    expect(farm.farm).toBe(before);
  });

  test("keeps what it is cancelling until its lease has run out (3)", () => {
    const farm = building();
    farm.cancel(1);
    farm.vanish("bench");
    farm.pass(leaseMs - 1);
    expect(farm.states(1)).toBe("cancelling, cancelled");
    farm.pass(1);
    expect(farm.states(1)).toBe("cancelled, cancelled");
  });
});

describe("an agent that comes back as the same boot", () => {
  test("is told to stop what is no longer its own", () => {
    const farm = building();
    farm.vanish("bench");
    farm.compileAgent("bench", { holding: [held(1, "compile")] });
    expect(farm.effects("stop")).toEqual([
      { kind: "stop", agent: "bench", chain: chainNumber(1), job: "compile", attempt: 1 },
    ]);
  });

  test("is told to stop what it should be cancelling, again at each of its statements", () => {
    const farm = building();
    farm.cancel(1);
    for (const _beat of [1, 2]) {
      farm.compileAgent("bench", { holding: [held(1, "compile")] });
      expect(farm.effects("stop")).toHaveLength(1);
    }
  });

  test("is told to stop what nobody ever gave it", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi", { holding: [held(7, "upload", 3)] });
    expect(farm.effects("stop")).toEqual([
      { kind: "stop", agent: "pi", chain: chainNumber(7), job: "upload", attempt: 3 },
    ]);
  });

  test("is left alone with what is its own", () => {
    const farm = building();
    farm.compileAgent("bench", { holding: [held(1, "compile")] });
    expect(farm.last.effects).toEqual([]);
    expect(farm.last.changed.size).toBe(0);
  });

  test("with the result of the flash for which it was given up: that is the end, and the device is not asked", () => {
    const farm = flashing();
    const from = { agent: "pi", attempt: 1 };
    farm.vanish("pi");
    farm.report(1, "upload", flashed, from);
    expect(farm.upload(1)).toMatchObject({ state: "succeeded", outcome: flashed, assigned: { agent: "pi" } });
    expect(farm.effects("archive")).toHaveLength(1);
    farm.report(1, "upload", failedWith(failures.partial), from);
    expect(farm.states(1)).toBe("succeeded");
  });

  test("with a flash that failed and a device that is known to be half written: that is the end too", () => {
    const farm = flashing();
    farm.vanish("pi");
    farm.report(1, "upload", failedWith(failures.partial), { agent: "pi", attempt: 1 });
    expect(farm.upload(1)).toMatchObject({ state: "failed", outcome: { failure: { effect: "partial" } } });
  });

  test.each([
    ["a result that leaves the device unknown", failures.uncertain, { agent: "pi", attempt: 1 }],
    ["a result of somebody else", failures.partial, { agent: "other", attempt: 1 }],
    ["a result of another attempt", failures.partial, { agent: "pi", attempt: 2 }],
  ])("with %s: the device is asked all the same", (_what, failure, from) => {
    const farm = flashing();
    farm.uploadAgent("other");
    farm.vanish("pi");
    farm.report(1, "upload", failedWith(failure), from);
    expect(farm.upload(1)).toMatchObject({ state: "queued", mode: "probe" });
  });

  test("when the device is being asked already: its result is too late", () => {
    const farm = flashing();
    farm.uploadAgent("other");
    farm.vanish("pi");
    farm.pass(probeWaitMs);
    expect(farm.states(1)).toBe("dispatched");
    farm.report(1, "upload", failedWith(failures.partial), { agent: "pi", attempt: 1 });
    expect(farm.states(1)).toBe("dispatched");
  });

  test("in the middle of the flash for which it was given up: the device is not asked before it has let go", () => {
    const farm = flashing();
    farm.uploadAgent("other");
    farm.vanish("pi");
    farm.uploadAgent("pi", { holding: [held(1, "upload")] });
    for (let waitedMs = 0; waitedMs < probeWaitMs * 2; waitedMs += 10_000) {
      farm.pass(10_000);
      farm.uploadAgent("pi", { holding: [held(1, "upload")] });
    }
    expect(farm.states(1)).toBe("queued");
    farm.uploadAgent("pi");
    expect(farm.states(1)).toBe("queued");
    // It knows no better than to let the device be asked.
    farm.report(1, "upload", failedWith(failures.uncertain), { agent: "pi", attempt: 1 });
    farm.pass(1_000);
    expect(farm.upload(1)).toMatchObject({ state: "dispatched", mode: "probe" });
  });

  test.each([false, true])(
    "in the middle of its flash, and falls silent again: the device is left alone as long as the first time (restart: %s)",
    (isRestarted) => {
      const farm = flashing();
      farm.uploadAgent("other");
      farm.vanish("pi");
      farm.pass(probeWaitMs - 1_000);
      farm.uploadAgent("pi", { holding: [held(1, "upload")] });
      if (isRestarted) {
        farm.farm = { ...emptyFarm, chains: farm.farm.chains };
        farm.uploadAgent("other");
      } else farm.vanish("pi");
      farm.pass(probeWaitMs - 1);
      expect(farm.states(1)).toBe("queued");
      farm.pass(1);
      expect(farm.upload(1)).toMatchObject({ state: "dispatched", mode: "probe" });
    },
  );

  test("in the middle of its flash puts the question off once in a while, not with each of its statements", () => {
    const farm = flashing();
    farm.vanish("pi");
    let writes = 0;
    for (let beat = 0; beat < 60; beat += 1) {
      farm.pass(1_000);
      farm.uploadAgent("pi", { holding: [held(1, "upload")] });
      writes += farm.last.changed.size;
    }
    expect(writes).toBe(3);
  });
});

describe("an agent that restarts", () => {
  test("has lost what its former boot held: the build is compiled again", () => {
    const farm = building();
    farm.compileAgent("bench", { boot: 2 });
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", attempt: 2, assigned: { boot: "boot0002" } });
  });

  test("has lost what was on its way to its former boot", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(buildRequest(1));
    farm.compileAgent("bench", { boot: 2 });
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", attempt: 2 });
    expect(farm.claim(1, "compile", { attempt: 1, boot: 2 })).toBe("drop");
  });

  test("has closed its connections: a lost flash is asked about after a second (2)", () => {
    const farm = flashing();
    farm.uploadAgent("pi", { boot: 2 });
    expect(farm.upload(1)).toMatchObject({ state: "queued", mode: "probe", notBeforeAt: farm.at + 1_000 });
    farm.pass(1_000);
    expect(farm.upload(1)).toMatchObject({ state: "dispatched", mode: "probe" });
  });

  test("proves the death of what was being cancelled (3)", () => {
    const farm = building();
    farm.cancel(1);
    farm.compileAgent("bench", { boot: 2 });
    expect(farm.states(1)).toBe("cancelled, cancelled");
  });

  test("keeps what its new boot has claimed already", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(buildRequest(1));
    farm.claim(1, "compile", { boot: 2 });
    farm.compileAgent("bench", { boot: 2, holding: [held(1, "compile")] });
    expect(farm.states(1)).toBe("running");
  });
});

describe("the passing of time", () => {
  test("takes back a dispatch that nobody has claimed for a lease, and its late claim is dropped", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(buildRequest(1));
    farm.pass(leaseMs - 1);
    expect(farm.job(1, "compile").attempt).toBe(1);
    farm.pass(1);
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", attempt: 2 });
    expect(farm.claim(1, "compile", { attempt: 1 })).toBe("drop");
  });

  test("takes back an unclaimed probe as a probe", () => {
    const farm = flashing();
    farm.uploadAgent("pi", { boot: 2 });
    farm.pass(1_000);
    farm.pass(leaseMs);
    expect(farm.upload(1)).toMatchObject({ mode: "probe", attempt: 3 });
  });

  test("finds a job that its present agent does not hold, because the answer to its claim was lost (4)", () => {
    const farm = building();
    farm.pass(leaseMs - 1);
    expect(farm.job(1, "compile").attempt).toBe(1);
    farm.pass(1);
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", attempt: 2 });
  });

  test("leaves a job that its agent says it holds, however long it takes (4)", () => {
    const farm = building();
    farm.compileAgent("bench", { holding: [held(1, "compile")] });
    farm.pass(3_600_000);
    expect(farm.states(1)).toBe("running, held");
  });

  test("ends a cancel whose agent is there and holds nothing (4)", () => {
    const farm = building();
    farm.cancel(1);
    farm.pass(leaseMs);
    expect(farm.states(1)).toBe("cancelled, cancelled");
  });

  test("asks about a flash that its present agent no longer holds (4)", () => {
    const farm = flashing();
    farm.pass(leaseMs);
    expect(farm.upload(1)).toMatchObject({ state: "queued", mode: "probe", notBeforeAt: farm.at + probeWaitMs });
  });

  test("changes nothing where nothing is due", () => {
    const farm = building();
    const before = farm.farm;
    farm.pass(1_000);
    expect(farm.farm).toBe(before);
    expect(farm.last.effects).toEqual([]);
  });
});

describe("a coordinator that starts while an agent is down for good", () => {
  /** What a new coordinator has: the records, and no word from any agent. */
  function restarted(farm: TestFarm): TestFarm {
    farm.farm = { ...emptyFarm, chains: farm.farm.chains };
    farm.pass(500);
    return farm;
  }

  test("takes the build from it after a lease (5)", () => {
    const farm = restarted(building());
    farm.compileAgent("other");
    farm.pass(leaseMs - 1);
    expect(farm.job(1, "compile")).toMatchObject({ state: "running", assigned: { agent: "bench" } });
    farm.pass(1);
    expect(farm.job(1, "compile")).toMatchObject({ state: "dispatched", assigned: { agent: "other" } });
  });

  test("asks about its flash after lease and wait (5)", () => {
    const farm = restarted(flashing());
    farm.pass(leaseMs);
    expect(farm.upload(1)).toMatchObject({ state: "queued", mode: "probe", notBeforeAt: farm.at + probeWaitMs });
  });

  test("ends what it was cancelling after a lease (5)", () => {
    const cancelled = building();
    cancelled.cancel(1);
    const farm = restarted(cancelled);
    farm.pass(leaseMs);
    expect(farm.states(1)).toBe("cancelled, cancelled");
  });

  test("keeps an agent's work when the agent is there after all", () => {
    const farm = restarted(building());
    farm.compileAgent("bench", { holding: [held(1, "compile")] });
    farm.pass(leaseMs * 2);
    expect(farm.job(1, "compile")).toMatchObject({ state: "running", attempt: 1 });
    farm.report(1, "compile", built());
    expect(farm.states(1)).toBe("succeeded, queued");
  });
});

test("a lost build whose report comes after all counts only for the attempt in hand, and so flashes once", () => {
  const farm = building();
  farm.uploadAgent("pi");
  farm.vanish("bench");
  farm.compileAgent("bench");
  farm.claim(1, "compile");
  farm.report(1, "compile", failedWith(failures.final), { attempt: 1 });
  expect(farm.states(1)).toBe("running, held");
  farm.report(1, "compile", built());
  farm.claim(1, "upload");
  farm.claimFlash(1);
  farm.report(1, "upload", flashed);
  expect(farm.states(1)).toBe("succeeded, succeeded");
});
