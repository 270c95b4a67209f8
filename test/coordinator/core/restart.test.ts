/** A coordinator that starts: whatever the records are, in whatever order they are read, every chain comes to its end. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { decode } from "#protocol/envelope.ts";
import { deathMsMax, deviceDataTimeoutMs, leaseMs } from "#protocol/limits.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import { transition } from "#coordinator/core/transition.ts";
import { FarmStory, life } from "#test/support/farm-arbitraries.ts";
import { chainNumber, installRequest, startAt, successes } from "#test/support/farm-builders.ts";
import { recordCorpus } from "#test/support/record-corpus.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** Restarts the farm on these records, with agents that do, and people who allow, whatever there is, until nothing is left to do. */
function liveOn(chains: readonly Chain[], at = startAt): TestFarm {
  const farm = new TestFarm();
  farm.at = at;
  farm.farm = { ...emptyFarm, chains: new Map(chains.map((chain) => [chain.id, chain])) };
  farm.pass(0);
  const untilMs = 2 * (leaseMs + deviceDataTimeoutMs + deathMsMax);
  for (let passedMs = 0; passedMs < untilMs; passedMs += 5_000) {
    farm.compileAgent("bench", { boot: 9, slots: 4 });
    farm.uploadAgent("pi", { boot: 9, slots: 4 });
    farm.pass(5_000);
    for (const chain of farm.farm.chains.values()) {
      work(farm, chain);
      if (chain.rollout !== undefined)
        farm.send({ kind: "rollout-asked", id: chain.rollout.id, action: "resume", answerTo: 0 });
    }
  }
  return farm;
}

function work(farm: TestFarm, chain: Chain): void {
  for (const job of jobsOf(chain)) {
    if (job.state !== "dispatched" || job.assigned === undefined) continue;
    const from = { ...job.assigned, chain: chain.id, job: job.name, attempt: job.attempt, answerTo: 0 };
    farm.send({ kind: "job-claimed", ...from });
    farm.send({ kind: "job-reported", result: successes[job.name], ...from });
  }
}

describe("a record of an older version", () => {
  test.each(recordCorpus)("$version $name comes to its end", ({ bytes }) => {
    const decoded = decode(StoredChain, bytes);
    if (!decoded.ok) throw decoded.error;
    const farm = liveOn([decoded.value]);
    const end = farm.farm.chains.get(decoded.value.id)!;
    expect(isFinished(end)).toBe(true);
    for (const job of jobsOf(decoded.value).filter(({ state }) => state === "queued" || state === "held")) {
      expect(end[job.name]?.state).toBe("succeeded");
    }
  });
});

test("a held job whose prerequisite is missing, or has ended without success, is cancelled, and its record says why", () => {
  const source = new TestFarm();
  source.submit(installRequest(1), installRequest(2));
  const { compile: _missing, ...orphan } = source.chain(1);
  const failed = {
    ...source.chain(2),
    compile: {
      ...source.chain(2).compile!,
      state: "failed" as const,
      endedAt: startAt,
      outcome: { kind: "failed" as const, failure: { kind: "internal" as const, detail: "a bug" } },
    },
  };
  const farm = liveOn([orphan, failed]);
  expect(farm.job(1, "upload").outcome).toEqual({ kind: "cancelled", cause: "prerequisite-unknown" });
  expect(farm.job(2, "upload").outcome).toEqual({ kind: "cancelled", cause: "prerequisite-failed" });
  expect(farm.farm.chains.get(chainNumber(1))).toBeDefined();
});

test("the order in which the records are read makes no difference to anything that happens afterwards", () => {
  fc.assert(
    fc.property(life, life, fc.integer(), (before, after, salt) => {
      const story = new FarmStory();
      let farm: Farm = emptyFarm;
      for (const happening of before) farm = transition(farm, story.next(farm, happening), story.at).farm;
      const shuffled = [...farm.chains].sort(([a], [b]) => hash(a, salt) - hash(b, salt));
      let other: Farm = { ...farm, chains: new Map(shuffled) };
      for (const happening of after) {
        const event = story.next(farm, happening);
        const step = transition(farm, event, story.at);
        const twin = transition(other, event, story.at);
        expect(new Map(twin.farm.chains)).toEqual(new Map(step.farm.chains));
        expect(twin.effects).toEqual(step.effects);
        farm = step.farm;
        other = twin.farm;
      }
    }),
    { numRuns: 40 },
  );
});

test("a farm that starts anew in the middle of any life keeps its invariants, and every chain comes to its end", () => {
  fc.assert(
    fc.property(life, (happenings) => {
      const story = new FarmStory();
      let farm: Farm = emptyFarm;
      for (const happening of happenings) farm = transition(farm, story.next(farm, happening), story.at).farm;
      const records = [...farm.chains.values()].toReversed();
      const end = liveOn(records, story.at);
      expect(checkFarm(end.farm)).toEqual([]);
      expect([...end.farm.chains.values()].filter((chain) => !isFinished(chain)).map(({ id }) => id)).toEqual([]);
    }),
    { numRuns: 60 },
  );
});

function hash(text: string, salt: number): number {
  let sum = salt | 0;
  for (const character of text) sum = Math.imul(sum ^ character.charCodeAt(0), 0x01000193);
  return sum;
}
