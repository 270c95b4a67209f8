/** A plan is decided by its seed, and mistreats everybody. */
import { expect, test } from "vitest";
import { faultKinds, planFaults } from "#test/chaos/fault-plan.ts";
import { SimulatedRandom } from "#test/simulation/simulated-random.ts";

const victims = {
  processes: ["nats-server", "coordinator-1", "coordinator-2", "build-1", "build-2", "flash-1", "flash-2"],
  links: ["user link", "coordinator-1 link", "coordinator-2 link", "build-1 link", "flash-1 link"],
  devices: ["lamp-1", "lamp-2", "lamp-3", "lamp-4"],
};
const planOf = (seed: number) => planFaults(new SimulatedRandom(seed), { count: 240, overMs: 420_000, victims });

test("the same seed gives the same plan, and another seed another one", () => {
  expect(planOf(1)).toEqual(planOf(1));
  expect(planOf(1)).not.toEqual(planOf(2));
});

test("a plan has as many faults as were asked for, of every kind and for every victim, in their order", () => {
  const plan = planOf(3);
  expect(plan).toHaveLength(240);
  expect(new Set(plan.map(({ kind }) => kind))).toEqual(new Set(faultKinds));
  expect(new Set(plan.map(({ victim }) => victim))).toEqual(new Set(Object.values(victims).flat()));
  expect(plan.map(({ at }) => at)).toEqual(plan.map(({ at }) => at).toSorted((a, b) => a - b));
});

test("no victim suffers two faults at once", () => {
  for (const ofVictim of Map.groupBy(planOf(4), ({ victim }) => victim).values()) {
    let over = 0;
    for (const { at, ms } of ofVictim) {
      expect(at).toBeGreaterThanOrEqual(over);
      over = at + ms;
    }
  }
});
