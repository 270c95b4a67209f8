/** docs/state-machine.md and the table of states say the same. */
import { expect, test } from "vitest";
import { JobState, nextStates } from "#protocol/job.ts";
import { documentedSteps, drawnSteps, reservedSteps } from "#test/support/state-machine-page.ts";

const legal = JobState.options.flatMap((from) => nextStates[from].map((to) => `${from} → ${to}`)).toSorted();

test("the diagram draws exactly the steps of the table", () => {
  expect([...drawnSteps()].toSorted()).toEqual(legal);
});

test("the page explains every step of the table once, by its cause or as one that is not taken yet", () => {
  expect([...documentedSteps(), ...reservedSteps()].toSorted()).toEqual(legal);
});
