/** What the history gives up, and what it keeps whatever the count. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Chain, jobsOf } from "#protocol/chain.ts";
import { prunable } from "#coordinator/core/history.ts";
import {
  built,
  buildRequest,
  chainNumber,
  flashed,
  installRequest,
  startAt,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

type Make = typeof installRequest;

/** Chains that have ended one after the other, a second apart; newest first. */
function ended(...requests: readonly (readonly [Make, string])[]): readonly Chain[] {
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  return requests
    .map(([make, configuration], index) => {
      const n = index + 1;
      farm.at = startAt + n * 1_000;
      farm.submit(make(n, { configuration }));
      const chain = farm.chain(n);
      if (chain.compile !== undefined) {
        farm.claim(n, "compile");
        farm.report(n, "compile", built());
      }
      if (chain.upload !== undefined) {
        farm.claim(n, "upload");
        farm.claimFlash(n);
        farm.report(n, "upload", flashed);
      }
      return farm.chain(n);
    })
    .toReversed();
}

const forever = { chainsMax: 1_000, ageMsMax: Number.MAX_SAFE_INTEGER };

describe("the history", () => {
  test("keeps everything that is within the limits", () => {
    expect(prunable(ended([installRequest, "kitchen"], [installRequest, "kitchen"]), forever, startAt)).toEqual([]);
  });

  test("gives up what is beyond the count, oldest first", () => {
    const chains = ended([installRequest, "kitchen"], [installRequest, "kitchen"], [installRequest, "kitchen"]);
    expect(prunable(chains, { ...forever, chainsMax: 2 }, startAt)).toEqual([chainNumber(1)]);
  });

  test("gives up what is too old", () => {
    const chains = ended([installRequest, "kitchen"], [installRequest, "kitchen"], [installRequest, "kitchen"]);
    expect(prunable(chains, { ...forever, ageMsMax: 1_500 }, startAt + 4_000)).toEqual([
      chainNumber(2),
      chainNumber(1),
    ]);
  });

  test("keeps both halves of a device's last install whatever the count and the age, also in two chains", () => {
    const chains = ended(
      [installRequest, "kitchen"],
      [buildRequest, "kitchen"],
      [installRequest, "cellar"],
      [installRequest, "cellar"],
      [uploadRequest, "attic"],
    );
    const none = { chainsMax: 0, ageMsMax: 0 };
    expect(prunable(chains, none, startAt + 10 ** 9)).toEqual([chainNumber(3)]);
  });

  test("does not keep a chain for jobs that never began", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1, { configuration: "kitchen" }));
    farm.cancel(1);
    expect(prunable([farm.chain(1)], { chainsMax: 0, ageMsMax: 0 }, startAt)).toEqual([chainNumber(1)]);
  });

  test("never loses the latest of any job of any configuration", () => {
    const makes: readonly Make[] = [installRequest, buildRequest, uploadRequest];
    const request = fc.tuple(fc.constantFrom(...makes), fc.constantFrom("kitchen", "cellar", "attic"));
    fc.assert(
      fc.property(fc.array(request, { maxLength: 12 }), fc.nat(12), fc.nat(20_000), (requests, chainsMax, ageMsMax) => {
        const chains = ended(...requests);
        const gone = new Set(prunable(chains, { chainsMax, ageMsMax }, startAt + 13_000));
        const latest = new Map<string, string>();
        for (const chain of chains.toReversed()) {
          for (const job of jobsOf(chain)) latest.set(`${chain.configuration}.${job.name}`, chain.id);
        }
        for (const id of latest.values()) expect(gone.has(id as Chain["id"])).toBe(false);
        expect(chains.length - gone.size).toBeLessThanOrEqual(Math.max(chainsMax, 0) + latest.size);
      }),
      { numRuns: 60 },
    );
  });
});
