/** The index says what a scan of all chains would say, however the farm came about. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { isTerminal } from "#protocol/job.ts";
import { Draft, emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { isInHand, isTaking } from "#coordinator/core/in-hand.ts";
import { transition } from "#coordinator/core/transition.ts";
import { FarmStory, life } from "#test/support/farm-arbitraries.ts";
import { installRequest } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

type Found = Readonly<Record<"compile" | "upload" | "taking" | "freeing" | "cleaning" | "same", readonly ChainId[]>>;

const idsOf = (chains: Iterable<Chain>): readonly ChainId[] => [...chains].map(({ id }) => id);

function scanned(farm: Farm): Found {
  const all = [...farm.chains.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const first = all[0]?.configuration;
  return {
    compile: idsOf(all.filter(({ clean, compile }) => [clean?.state, compile?.state].includes("queued"))),
    upload: idsOf(all.filter(({ upload }) => upload?.state === "queued")),
    taking: idsOf(all.filter(isTaking)),
    freeing: idsOf(
      all.filter((chain) => jobsOf(chain).some((job) => job.assigned !== undefined && !isInHand(job.state))),
    ),
    cleaning: idsOf(all.filter(({ clean }) => clean !== undefined && !isTerminal(clean.state))),
    same: idsOf(all.filter((chain) => first !== undefined && configurationsOf(chain).includes(first))),
  };
}

function looked(farm: Farm): Found {
  const draft = new Draft(farm);
  const [first] = draft.chains();
  const found = {
    compile: idsOf(draft.queued("compile")),
    upload: idsOf(draft.queued("upload")),
    taking: idsOf(draft.taking()),
    freeing: [...idsOf(draft.freeing())].sort(),
    cleaning: idsOf(draft.cleaning()),
    same: first === undefined ? [] : idsOf(draft.chainsOf(first.configuration)),
  };
  draft.finish();
  return found;
}

describe("the index", () => {
  test("agrees with a scan after every step of every life", () => {
    fc.assert(
      fc.property(life, (happenings) => {
        const story = new FarmStory();
        let farm = emptyFarm;
        for (const happening of happenings) {
          farm = transition(farm, story.next(farm, happening), story.at).farm;
          expect(looked(farm)).toEqual(scanned(farm));
        }
      }),
      { numRuns: 100 },
    );
  });

  test("of a former farm is not that of the farm that came from it", () => {
    const story = new TestFarm();
    story.submit(installRequest(1), installRequest(2));
    const former = story.farm;
    story.compileAgent("bench");
    story.claim(1, "compile");
    expect(looked(former)).toEqual(scanned(former));
    expect(looked(story.farm)).toEqual(scanned(story.farm));
    expect(story.states(1)).toBe("running, held");
  });
});
