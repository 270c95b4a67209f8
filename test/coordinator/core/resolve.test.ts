/** A person settles what nobody could find out: the one step out of a terminal state. */
import { expect, test } from "vitest";
import { isFinished } from "#protocol/chain.ts";
import { emptyFarm } from "#coordinator/core/farm.ts";
import { chainNumber, failedWith, failures, installRequest, uploadRequest } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

function farmWithUnknown(): TestFarm {
  const farm = new TestFarm();
  farm.uploadAgent("pi", { slots: 2 });
  farm.submit(uploadRequest(1));
  farm.claim(1, "upload");
  farm.claimFlash(1);
  farm.report(1, "upload", failedWith(failures.uncertain));
  expect(farm.states(1)).toBe("unknown");
  return farm;
}

test("a device that runs the build has succeeded, and the record says that a person said so", () => {
  const farm = farmWithUnknown();
  const { endedAt } = farm.job(1, "upload");
  farm.pass(5_000);
  expect(farm.resolve(farm.chain(1), true)).toMatchObject({ kind: "device-resolved", chain: { id: chainNumber(1) } });
  expect(farm.job(1, "upload")).toMatchObject({ state: "succeeded", endedAt, outcome: { level: "told" } });
  expect(farm.effects("archive")).toHaveLength(1);
});

test("a device that does not run it has failed", () => {
  const farm = farmWithUnknown();
  farm.resolve(farm.chain(1), false);
  expect(farm.job(1, "upload")).toMatchObject({ state: "failed", outcome: { failure: { kind: "not-running" } } });
});

test("a record that is in the history comes back to be written there anew", () => {
  const farm = farmWithUnknown();
  const archived = farm.chain(1);
  farm.farm = emptyFarm;
  farm.resolve(archived, true);
  expect(farm.states(1)).toBe("succeeded");
  expect(isFinished(farm.chain(1))).toBe(true);
  expect(farm.effects("archive")).toHaveLength(1);
  farm.send({ kind: "chain-archived", chain: chainNumber(1) });
  expect(farm.farm.chains.size).toBe(0);
});

test("a person's word that comes while the record is archived as unknown is not lost with it", () => {
  const farm = farmWithUnknown();
  const record = farm.chain(1);
  farm.resolve(record, true);
  farm.send({ kind: "chain-archived", chain: chainNumber(1), record });
  expect(farm.states(1)).toBe("succeeded");
  farm.send({ kind: "chain-archived", chain: chainNumber(1), record: farm.chain(1) });
  expect(farm.farm.chains.size).toBe(0);
});

test("what is not unknown is not resolved", () => {
  const farm = farmWithUnknown();
  const before = farm.chain(1);
  farm.resolve(before, true);
  expect(farm.resolve(before, false)).toMatchObject({ kind: "refused", code: "not-unknown" });
  expect(farm.states(1)).toBe("succeeded");
  farm.submit(installRequest(2));
  expect(farm.resolve(farm.chain(2), true)).toMatchObject({ kind: "refused", code: "not-unknown" });
});
