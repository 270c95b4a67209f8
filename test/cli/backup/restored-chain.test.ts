/** What was live in a backup ends by its restore: nothing goes on, and nobody claims to know what nobody knows. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { endedByRestore } from "#cli/backup/restored-chain.ts";
import { impliedEffects } from "#coordinator/core/effects.ts";
import { emptyFarm } from "#coordinator/core/farm.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import { transition } from "#coordinator/core/transition.ts";
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { decode } from "#protocol/envelope.ts";
import { isTerminal } from "#protocol/job.ts";
import { FarmStory, life } from "#test/support/farm-arbitraries.ts";
import { installRequest, startAt } from "#test/support/farm-builders.ts";
import { recordCorpus } from "#test/support/record-corpus.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const backupAt = Date.UTC(2026, 10, 26, 12, 30);
const at = backupAt + 86_400_000;

/** All that may be said of a restored chain. */
function expectEnded(before: Chain, after: Chain): void {
  expect(isFinished(after)).toBe(true);
  const farm = { ...emptyFarm, chains: new Map([[after.id, after]]) };
  expect(checkFarm(farm)).toEqual([]);
  expect(impliedEffects(farm)).toEqual([{ kind: "archive", chain: after.id }]);
  for (const job of jobsOf(before)) {
    const now = jobsOf(after).find(({ name }) => name === job.name);
    if (isTerminal(job.state)) expect(now).toEqual(job);
    else expect(["cancelled", "unknown"]).toContain(now?.state);
  }
  const { upload } = before;
  if (upload === undefined || isTerminal(upload.state)) return;
  const mayHaveFlashed = upload.flashClaim !== undefined || ["running", "cancelling"].includes(upload.state);
  expect(after.upload?.state).toBe(mayHaveFlashed ? "unknown" : "cancelled");
}

test.each(recordCorpus)("$version $name ends", ({ bytes }) => {
  const decoded = decode(StoredChain, bytes);
  if (!decoded.ok) throw decoded.error;
  expectEnded(decoded.value, endedByRestore(decoded.value, backupAt, at));
});

test("every chain of every farm ends, at whatever moment the backup was made", () => {
  fc.assert(
    fc.property(life, (happenings) => {
      const story = new FarmStory();
      let farm = emptyFarm;
      for (const happening of happenings) farm = transition(farm, story.next(farm, happening), story.at).farm;
      for (const chain of farm.chains.values()) expectEnded(chain, endedByRestore(chain, backupAt, at));
      const chains = new Map([...farm.chains].map(([id, chain]) => [id, endedByRestore(chain, backupAt, at)]));
      const restored = { ...emptyFarm, chains };
      const next = transition(restored, { kind: "time-passed" }, at);
      expect(next.changed.size).toBe(0);
      expect(impliedEffects(restored).every(({ kind }) => kind === "archive")).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test("a flash that was claimed is unknown, and says since when nobody knows", () => {
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  farm.submit(installRequest(1), installRequest(2, { configuration: "lamp" }));
  farm.bringToUpload(1);
  farm.claimFlash(1);
  const flashing = endedByRestore(farm.chain(1), backupAt, at);
  expect(flashing).toMatchObject({
    compile: { state: "succeeded" },
    upload: {
      state: "unknown",
      startedAt: startAt,
      endedAt: at,
      outcome: { kind: "failed", failure: { kind: "farm-restored", backupAt, effect: "uncertain" } },
    },
  });
  const building = endedByRestore(farm.chain(2), backupAt, at);
  const restored = { state: "cancelled", endedAt: at, outcome: { kind: "cancelled", cause: "restored", backupAt } };
  expect(building).toMatchObject({ compile: restored, upload: restored });
});
