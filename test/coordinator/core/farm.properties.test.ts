/**
 * What holds for every farm and every order of events, sensible or not.
 *
 * A failure prints its seed and path. To replay it, give both to the property that failed, e.g.
 * `fc.assert(property, { seed: 1234, path: "5:1", endOnFailure: true })`, or set FC_SEED and FC_PATH:
 * `FC_SEED=1234 FC_PATH=5:1 npx vitest run --project fast test/coordinator/core/farm.properties.test.ts -t "the name"`.
 * FC_RUNS sets the number of lives per property.
 */
import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type Chain, jobOf, jobsOf } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { isTerminal } from "#protocol/job.ts";
import { impliedEffects } from "#coordinator/core/effects.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import { Step } from "#coordinator/core/step.ts";
import { type Transition, transition, transitionAll } from "#coordinator/core/transition.ts";
import { FarmStory, type Happening, life } from "#test/support/farm-arbitraries.ts";
import { frozen } from "#test/support/frozen.ts";
import { documentedSteps } from "#test/support/state-machine-page.ts";

const { FC_SEED, FC_PATH, FC_RUNS } = process.env;
const parameters = {
  numRuns: Number(FC_RUNS ?? 150),
  ...(FC_SEED === undefined ? {} : { seed: Number(FC_SEED) }),
  ...(FC_PATH === undefined ? {} : { path: FC_PATH, endOnFailure: true }),
};

/** Lives a life event by event and looks at each step. */
function live(happenings: readonly Happening[], look: (before: Farm, step: Transition, at: number) => void): Farm {
  const story = new FarmStory();
  let farm = emptyFarm;
  for (const happening of happenings) {
    const event = story.next(farm, happening);
    const step = transition(farm, event, story.at);
    look(farm, step, story.at);
    farm = step.farm;
  }
  return farm;
}

function holds(look: (before: Farm, step: Transition, at: number) => void): void {
  fc.assert(
    fc.property(life, (happenings) => void live(happenings, look)),
    parameters,
  );
}

/**
 * The chains of `single` as they are where a wave opens only when all events are over: between two of them it has queued uploads, of which
 * a later one has ended some at the same instant. That they were queued for a moment is all that may tell.
 */
function withoutMoments(single: Farm, together: Farm, at: number): Farm["chains"] {
  const chains = [...single.chains].map(([id, chain]): [ChainId, Chain] => {
    const { upload, rollout } = chain;
    const wasHeld = together.chains.get(id)?.upload?.queuedAt === undefined;
    const isMoment = rollout !== undefined && upload?.state === "cancelled" && upload.queuedAt === at && wasHeld;
    if (!isMoment) return [id, chain];
    const { queuedAt: _queuedAt, ...rest } = upload;
    return [id, { ...chain, upload: rest }];
  });
  return new Map(chains);
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("after every step of every life", () => {
  test("all invariants hold, and no event is ever thrown back", () => {
    holds((_before, { farm }) => expect(checkFarm(farm)).toEqual([]));
  });

  test("a job that had ended is as it was, unless a person has settled what was unknown", () => {
    holds((before, { farm }) => {
      for (const chain of before.chains.values()) {
        for (const job of jobsOf(chain)) {
          const now = farm.chains.get(chain.id);
          if (!isTerminal(job.state) || now === undefined) continue;
          const after = jobOf(now, job.name);
          if (job.state === "unknown" && after?.state !== "unknown") expect(after?.endedAt).toEqual(job.endedAt);
          else expect(after).toEqual(job);
        }
      }
    });
  });

  test("a flash claim, once given, stays, and an attempt never counts backwards", () => {
    holds((before, { farm }) => {
      for (const chain of before.chains.values()) {
        const now = farm.chains.get(chain.id);
        if (now === undefined) continue;
        if (chain.upload?.flashClaim !== undefined) expect(now.upload?.flashClaim).toEqual(chain.upload.flashClaim);
        for (const job of jobsOf(chain)) expect(jobOf(now, job.name)!.attempt).toBeGreaterThanOrEqual(job.attempt);
      }
    });
  });

  test("an upload that may have flashed is never dispatched to flash again", () => {
    holds((_before, { farm, effects }) => {
      for (const effect of effects) {
        if (effect.kind !== "dispatch" || effect.job !== "upload") continue;
        const upload = farm.chains.get(effect.chain)?.upload;
        if (upload?.flashClaim !== undefined) expect(upload.mode).toBe("probe");
      }
    });
  });

  test("what is dispatched is what the records newly say is dispatched", () => {
    holds((before, { farm, effects }) => {
      const said = effects.filter((effect) => effect.kind === "dispatch").map(({ kind: _kind, ...attempt }) => attempt);
      const recorded = [...farm.chains.values()].flatMap((chain) =>
        jobsOf(chain)
          .filter((job) => {
            const earlier = before.chains.get(chain.id);
            const same = earlier === undefined ? undefined : jobOf(earlier, job.name);
            return job.state === "dispatched" && !(same?.state === "dispatched" && same.attempt === job.attempt);
          })
          .map((job) => ({ agent: job.assigned!.agent, chain: chain.id, job: job.name, attempt: job.attempt })),
      );
      expect(new Set(said.map((attempt) => JSON.stringify(attempt)))).toEqual(
        new Set(recorded.map((attempt) => JSON.stringify(attempt))),
      );
      expect(said).toHaveLength(recorded.length);
    });
  });

  test("the changed records are exactly the difference between the farms", () => {
    holds((before, { farm, changed }) => {
      for (const id of new Set([...before.chains.keys(), ...farm.chains.keys()])) {
        if (!changed.has(id)) expect(farm.chains.get(id)).toBe(before.chains.get(id));
      }
      for (const [id, chain] of changed) expect(farm.chains.get(id)).toBe(chain);
    });
  });

  test("an accepted chain is there until it is finished", () => {
    holds((before, { farm }) => {
      for (const chain of before.chains.values()) {
        if (!farm.chains.has(chain.id)) expect(jobsOf(chain).every((job) => isTerminal(job.state))).toBe(true);
      }
    });
  });

  test("the records alone imply every dispatch, stop and archiving that is still due", () => {
    holds((_before, { farm }) => {
      const recordsOnly: Farm = { ...emptyFarm, chains: farm.chains };
      expect(impliedEffects(recordsOnly)).toEqual(impliedEffects(farm));
      for (const effect of impliedEffects(farm)) {
        if (effect.kind === "dispatch") expect(farm.chains.get(effect.chain)?.[effect.job]?.state).toBe("dispatched");
        if (effect.kind === "stop") expect(farm.chains.get(effect.chain)?.[effect.job]?.state).toBe("cancelling");
      }
    });
  });
});

describe("a step is pure", () => {
  test("it leaves the farm and the event as they were, and gives the same twice", () => {
    fc.assert(
      fc.property(life, (happenings) => {
        const story = new FarmStory();
        let farm = frozen(emptyFarm);
        for (const happening of happenings) {
          const event = frozen(story.next(farm, happening));
          const once = transition(farm, event, story.at);
          const again = transition(farm, event, story.at);
          // Compared by hand: the assertion's own comparison takes longer than all steps together.
          if (!isDeepStrictEqual(once, again)) expect(again).toEqual(once);
          farm = frozen(once.farm);
        }
      }),
      { ...parameters, numRuns: Math.ceil(parameters.numRuns / 2) },
    );
  });
});

describe("events that are handled together", () => {
  test("keep the same invariants as one by one, and answer every one of them", () => {
    fc.assert(
      fc.property(
        life,
        fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 20 }),
        (happenings, sizes) => {
          const story = new FarmStory();
          let farm = emptyFarm;
          let at = 0;
          for (let index = 0; at < happenings.length; index += 1) {
            const group = happenings.slice(at, at + sizes[index % sizes.length]!);
            at += group.length;
            const events = group.map((happening) => story.next(farm, happening));
            const step = transitionAll(farm, events, story.at);
            expect(checkFarm(step.farm)).toEqual([]);
            const asked = events.filter((event) => "answerTo" in event).map((event) => event.answerTo);
            const answered = step.effects.filter((effect) => effect.kind === "answer").map((effect) => effect.to);
            expect(answered).toEqual(asked);
            farm = step.farm;
          }
        },
      ),
      parameters,
    );
  });

  test("end jobs as one by one, when nothing has to be placed in between", () => {
    fc.assert(
      fc.property(life, (happenings) => {
        const story = new FarmStory();
        story.at += 10_000_000;
        const lived = live(happenings, () => {});
        // A clean goes on by what the step before has ended.
        const chains = [...lived.chains].filter(([, chain]) => chain.clean === undefined);
        const farm: Farm = { ...emptyFarm, chains: new Map(chains) };
        const events = happenings
          .filter(({ kind, pick }) => (kind === "cancel" && pick % 11 > 0) || kind === "archive")
          .map((happening) => story.next(farm, { ...happening, passMs: 0 }));
        const together = transitionAll(farm, events, story.at);
        let single: Farm = farm;
        for (const event of events) single = transition(single, event, story.at).farm;
        expect(new Map(together.farm.chains)).toEqual(withoutMoments(single, together.farm, story.at));
      }),
      parameters,
    );
  });
});

test("no life takes a step of which docs/state-machine.md does not name the cause", () => {
  const documented = documentedSteps();
  const original = Object.getOwnPropertyDescriptor(Step.prototype, "change")?.value as Step["change"];
  const strange = new Set<string>();
  vi.spyOn(Step.prototype, "change").mockImplementation(function (this: Step, id, name, change) {
    const chain = this.draft.chain(id);
    const from = chain === undefined ? undefined : jobOf(chain, name)?.state;
    const taken = `${from} → ${change.state}`;
    if (change.state !== undefined && change.state !== from && !documented.has(taken)) strange.add(taken);
    return original.call(this, id, name, change);
  });
  holds(() => {});
  expect([...strange]).toEqual([]);
});
