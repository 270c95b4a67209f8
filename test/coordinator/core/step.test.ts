/** The one door to a job's state, and the draft behind it. */
import { describe, expect, test } from "vitest";
import { InvariantError } from "#protocol/errors.ts";
import { isTerminal, JobState, nextStates } from "#protocol/job.ts";
import { Draft, emptyFarm } from "#coordinator/core/farm.ts";
import { Step } from "#coordinator/core/step.ts";
import { buildRequest, chainNumber } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

describe("the table of states", () => {
  test("has no way out of a terminal state, except that an unknown end can be resolved", () => {
    for (const state of JobState.options.filter(isTerminal)) {
      expect(nextStates[state]).toEqual(state === "unknown" ? ["succeeded", "failed"] : []);
    }
  });

  test("leads from every state to an end", () => {
    const reaches = (from: JobState, seen: ReadonlySet<JobState> = new Set()): boolean =>
      isTerminal(from) || nextStates[from].some((next) => !seen.has(next) && reaches(next, new Set([...seen, from])));
    expect(JobState.options.filter((state) => !reaches(state))).toEqual([]);
  });

  test("never lets a job be held again, nor a running one go back to being dispatched", () => {
    expect(Object.values(nextStates).flat()).not.toContain("held");
    expect(nextStates.running).not.toContain("dispatched");
    expect(nextStates.cancelling).not.toContain("running");
  });
});

test("a step that the table does not have is a bug and thrown as one", () => {
  const farm = new TestFarm();
  farm.submit(buildRequest(1));
  const step = new Step(farm.farm, farm.at);
  expect(() => step.change(chainNumber(1), "compile", { state: "running" })).toThrow(InvariantError);
  expect(() => step.change(chainNumber(1), "upload", { state: "queued" })).toThrow(/no job/);
  expect(() => step.change(chainNumber(2), "compile", { state: "queued" })).toThrow(InvariantError);
});

test("a draft leaves its farm as it is, and a draft without changes gives back the very same farm", () => {
  const { farm } = new TestFarm();
  expect(new Draft(emptyFarm).finish()).toBe(emptyFarm);
  const draft = new Draft(farm);
  draft.removeChain(chainNumber(1));
  expect(draft.finish().chains.size).toBe(0);
  expect(farm.chains.size).toBe(0);
});

test("a draft lists its chains in the order of their ids, changed, added and removed ones included", () => {
  const farm = new TestFarm();
  farm.submit(buildRequest(3), buildRequest(1), buildRequest(2));
  const draft = new Draft(farm.farm);
  draft.removeChain(chainNumber(2));
  draft.setChain({ ...farm.chain(1), id: chainNumber(4) });
  draft.setChain({ ...farm.chain(3), createdAt: 7 });
  expect(draft.chains().map(({ id }) => id)).toEqual([1, 3, 4].map((n) => chainNumber(n)));
  expect(draft.chains()[1]?.createdAt).toBe(7);
});

test("a draft names its changes in the order in which they were made last", () => {
  const farm = new TestFarm();
  farm.submit(buildRequest(1), buildRequest(2));
  const draft = new Draft(farm.farm);
  draft.setChain(farm.chain(1));
  draft.setChain(farm.chain(2));
  draft.setChain(farm.chain(1));
  expect([...draft.changedChains().keys()]).toEqual([chainNumber(2), chainNumber(1)]);
});
