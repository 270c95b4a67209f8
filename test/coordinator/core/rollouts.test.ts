/** Installs in waves: each begins when the one before has ended, and too many failures stop all. */
import { expect, test } from "vitest";
import type { AdminAnswer, ChainRequest } from "#protocol/admin.ts";
import type { RolloutAction, RolloutView } from "#protocol/rollout.ts";
import { impliedEffects } from "#coordinator/core/effects.ts";
import { explain } from "#coordinator/core/explain.ts";
import { rolloutView } from "#coordinator/core/rollouts.ts";
import {
  built,
  chainNumber,
  confirmed,
  failedWith,
  failures,
  flashed,
  installRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const afterMs = 60_000;
const id = chainNumber(1);

function inWave(n: number, wave: number, failuresMax = 0): ChainRequest {
  const request = installRequest(n);
  const { upload } = request;
  if (upload?.target.kind !== "ota") return request;
  const target = { ...upload.target, api: { port: 6053 } };
  const rollout = { id, wave, failuresMax };
  return { ...request, rollout, isBulk: true, upload: { ...upload, target, confirmAfterMs: afterMs } };
}

/** One canary, then two and two; everything is built. */
function rollout(failuresMax = 0): TestFarm {
  const farm = new TestFarm();
  farm.submit(...[1, 2, 2, 3, 3].map((wave, index) => inWave(index + 1, wave, failuresMax)));
  farm.compileAgent("bench", { slots: 8 });
  farm.uploadAgent("pi", { slots: 8 });
  for (let n = 1; n <= 5; n += 1) {
    farm.claim(n, "compile");
    farm.report(n, "compile", built(`build ${n}`));
  }
  return farm;
}

function flash(farm: TestFarm, n: number): void {
  farm.claim(n, "upload");
  farm.claimFlash(n);
  farm.report(n, "upload", flashed);
}

function confirm(farm: TestFarm, ...chains: readonly number[]): void {
  farm.at += afterMs;
  farm.compileAgent("bench", { slots: 8 });
  farm.uploadAgent("pi", { slots: 8 });
  farm.pass(0);
  for (const n of chains) {
    farm.claim(n, "confirm");
    farm.report(n, "confirm", confirmed);
  }
}

const states = (farm: TestFarm) => [1, 2, 3, 4, 5].map((n) => farm.job(n, "upload").state);

function ask(farm: TestFarm, action: RolloutAction): AdminAnswer {
  farm.send({ kind: "rollout-asked", id, action, answerTo: 99 });
  const found = farm.last.effects.find((effect) => effect.kind === "answer" && effect.to === 99);
  if (found?.kind !== "answer") throw new Error("there was no answer");
  return found.body as AdminAnswer;
}

function view(farm: TestFarm): RolloutView {
  const found = rolloutView([...farm.farm.chains.values()]);
  if (found === undefined) throw new Error("there is no rollout");
  return found;
}

test("builds wait for no wave, and a wave is flashed when the one before is confirmed", () => {
  const farm = rollout();
  expect(states(farm)).toEqual(["dispatched", "held", "held", "held", "held"]);
  flash(farm, 1);
  expect(states(farm)[1]).toBe("held");
  expect(explain(farm.farm, chainNumber(2), farm.at).join("\n")).toContain("it is in wave 2, and wave 1 has not ended");
  confirm(farm, 1);
  expect(states(farm)).toEqual(["succeeded", "dispatched", "dispatched", "held", "held"]);
  flash(farm, 2);
  flash(farm, 3);
  confirm(farm, 2);
  expect(states(farm).slice(3)).toEqual(["held", "held"]);
  farm.claim(3, "confirm");
  farm.report(3, "confirm", confirmed);
  expect(states(farm).slice(3)).toEqual(["dispatched", "dispatched"]);
});

test("goes to the history when all of it has ended, and not before", () => {
  const farm = rollout();
  const archived = new Set<string>();
  const note = () => {
    for (const effect of farm.last.effects) if (effect.kind === "archive") archived.add(effect.chain);
  };
  flash(farm, 1);
  confirm(farm, 1);
  expect(impliedEffects(farm.farm).filter(({ kind }) => kind === "archive")).toEqual([]);
  for (const wave of [
    [2, 3],
    [4, 5],
  ]) {
    for (const n of wave) flash(farm, n);
    confirm(farm);
    for (const n of wave) {
      farm.claim(n, "confirm");
      note();
      expect(archived.size).toBe(0);
      farm.report(n, "confirm", confirmed);
    }
  }
  note();
  expect([...archived].toSorted()).toEqual([1, 2, 3, 4, 5].map(chainNumber));
  expect(view(farm)).toMatchObject({ state: "ended", failed: [] });
});

test.each([
  ["a flash that failed", (farm: TestFarm) => failUpload(farm, 1)],
  ["a device that went back to its build before", (farm: TestFarm) => rollBack(farm, 1)],
])("stops by itself after %s, until a person says so", (_what, fail) => {
  const farm = rollout();
  fail(farm);
  expect(states(farm).slice(1)).toEqual(["held", "held", "held", "held"]);
  expect(view(farm)).toMatchObject({ state: "stopped", failed: [{ configuration: "device 1" }] });
  expect(explain(farm.farm, chainNumber(2), farm.at).join("\n")).toContain("has stopped: 1 failed, 0 may");
  expect(ask(farm, "resume")).toMatchObject({ kind: "rollouts", rollouts: [{ state: "going" }] });
  expect(states(farm).slice(1)).toEqual(["dispatched", "dispatched", "held", "held"]);
});

function failUpload(farm: TestFarm, n: number): void {
  farm.claim(n, "upload");
  farm.claimFlash(n);
  farm.report(n, "upload", failedWith(failures.partial));
}

function rollBack(farm: TestFarm, n: number): void {
  flash(farm, n);
  confirm(farm);
  farm.claim(n, "confirm");
  farm.report(n, "confirm", failedWith(failures.rolledBack));
}

test("goes on as long as no more have failed than may", () => {
  const farm = rollout(1);
  failUpload(farm, 1);
  expect(states(farm).slice(1)).toEqual(["dispatched", "dispatched", "held", "held"]);
  failUpload(farm, 2);
  expect(view(farm).state).toBe("stopped");
  // What has begun ends.
  flash(farm, 3);
  confirm(farm, 3);
  expect(states(farm).slice(3)).toEqual(["held", "held"]);
});

test("paused, nothing of it begins to flash, not even what was ready; resumed, it goes on", () => {
  const farm = rollout();
  farm.uploadAgent("pi", { slots: 0 });
  flash(farm, 1);
  farm.uploadAgent("pi", { slots: 0 });
  expect(ask(farm, "pause")).toMatchObject({ rollouts: [{ state: "paused" }] });
  confirm(farm, 1);
  expect(states(farm).slice(1)).toEqual(["held", "held", "held", "held"]);
  ask(farm, "resume");
  expect(states(farm).slice(1)).toEqual(["dispatched", "dispatched", "held", "held"]);
});

test("aborted, what has begun to flash ends and the rest is cancelled", () => {
  const farm = rollout();
  farm.claim(1, "upload");
  farm.claimFlash(1);
  ask(farm, "abort");
  expect(states(farm)).toEqual(["running", "cancelled", "cancelled", "cancelled", "cancelled"]);
  farm.report(1, "upload", flashed);
  confirm(farm, 1);
  expect(view(farm).state).toBe("ended");
});

test("what a newer request has taken the place of is left out and is no failure", () => {
  const farm = rollout();
  farm.submit({ ...installRequest(9, { configuration: "device 1" }) });
  expect(farm.job(1, "upload").state).toBe("cancelled");
  expect(view(farm)).toMatchObject({ state: "going", failed: [] });
  expect(states(farm).slice(1)).toEqual(["dispatched", "dispatched", "held", "held"]);
});

test("a rollout that is not there is said to be so", () => {
  const farm = new TestFarm();
  expect(ask(farm, "pause")).toMatchObject({ kind: "refused", code: "not-found" });
});
