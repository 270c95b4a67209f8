/** The index says what a scan of all chains would say, however the farm came about. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import type { AgentId, ChainId } from "#protocol/ids.ts";
import { isTerminal } from "#protocol/job.ts";
import { scarceSegment } from "#coordinator/core/conflicts.ts";
import { expectedUploadMs } from "#coordinator/core/durations.ts";
import { Draft, emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { isInHand, isTaking } from "#coordinator/core/in-hand.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import { orderKey } from "#coordinator/core/order.ts";
import { transition } from "#coordinator/core/transition.ts";
import { isWarmFor } from "#coordinator/core/warmth.ts";
import { FarmStory, life } from "#test/support/farm-arbitraries.ts";
import { installRequest } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

type Found = Readonly<Record<"compile" | "upload" | "taking" | "freeing" | "cleaning" | "same", readonly ChainId[]>> & {
  readonly builds: number;
  /** Chains in the hands of each agent, in the order of the agents. */
  readonly inHand: readonly (readonly ChainId[])[];
  readonly owners: readonly (readonly AgentId[])[];
  readonly segments: Readonly<Record<string, readonly number[]>>;
};

const idsOf = (chains: Iterable<Chain>): readonly ChainId[] => [...chains].map(({ id }) => id);

/** Of the upload lane: a build's place says also which trees there were when it was queued. */
function inOrder(all: readonly Chain[]): readonly ChainId[] {
  const queued = all.flatMap((chain) => {
    const job = [chain.upload, chain.confirm].find((one) => one?.state === "queued");
    return job === undefined ? [] : [{ chain, key: orderKey(chain, job, 0) }];
  });
  // Those of one key stay in the order of their ids.
  return idsOf(queued.toSorted((a, b) => a.key - b.key).map(({ chain }) => chain));
}

/** By segment: flashes to come, those in stock, and their airtime. */
function segmentsOf(all: readonly Chain[]): Found["segments"] {
  const found: Record<string, [number, number, number]> = {};
  for (const chain of all) {
    const { compile, upload } = chain;
    const segment = upload === undefined || isTerminal(upload.state) ? undefined : scarceSegment(upload.spec.target);
    if (segment === undefined) continue;
    const [size, stock, airtimeMs] = found[segment] ?? [0, 0, 0];
    const isInStock = upload?.state !== "held" || isInHand(compile?.state);
    found[segment] = [size + 1, stock + (isInStock ? 1 : 0), airtimeMs + expectedUploadMs(noKnowledge, chain)];
  }
  return found;
}

function scanned(farm: Farm): Found {
  const all = [...farm.chains.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const first = all[0]?.configuration;
  return {
    compile: idsOf(all.filter(({ clean, compile }) => [clean?.state, compile?.state].includes("queued"))),
    builds: all.filter(({ compile }) => compile?.state === "queued").length,
    segments: segmentsOf(all),
    upload: inOrder(all),
    taking: idsOf(all.filter(isTaking)),
    inHand: [...farm.agents.keys()].map((agent) =>
      idsOf(all.filter((chain) => jobsOf(chain).some((job) => job.assigned?.agent === agent && isInHand(job.state)))),
    ),
    freeing: idsOf(
      all.filter((chain) => jobsOf(chain).some((job) => job.assigned !== undefined && !isInHand(job.state))),
    ),
    cleaning: idsOf(all.filter(({ clean }) => clean !== undefined && !isTerminal(clean.state))),
    same: idsOf(all.filter((chain) => first !== undefined && configurationsOf(chain).includes(first))),
    owners: all.map((chain) =>
      [...farm.agents]
        .filter(([, agent]) => isWarmFor(chain, agent))
        .map(([id]) => id)
        .sort(),
    ),
  };
}

function looked(farm: Farm): Found {
  const draft = new Draft(farm);
  const [first] = draft.chains();
  const found = {
    compile: [...idsOf(draft.queued("compile"))].sort(),
    builds: draft.queuedBuilds,
    segments: Object.fromEntries(
      [...draft.segments()].map(([name, { size, stock, airtimeMs }]) => [name, [size, stock.size, airtimeMs]]),
    ),
    upload: idsOf(draft.queued("upload")),
    taking: idsOf(draft.taking()),
    inHand: [...farm.agents.keys()].map((agent) => idsOf(draft.inHandOf(agent))),
    freeing: [...idsOf(draft.freeing())].sort(),
    cleaning: idsOf(draft.cleaning()),
    same: first === undefined ? [] : idsOf(draft.chainsOf(first.configuration)),
    owners: draft.chains().map((chain) => [...draft.ownersOf(chain)].sort()),
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
