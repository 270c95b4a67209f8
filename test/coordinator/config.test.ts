import { expect, test } from "vitest";
import { historyLimits } from "#coordinator/config.ts";
import { UsageError } from "#protocol/errors.ts";

const dayMs = 24 * 60 * 60_000;

test("the history's limits are the defaults, or what the environment says", () => {
  expect(historyLimits({})).toEqual({ chainsMax: 5_000, ageMsMax: 90 * dayMs });
  expect(historyLimits({ FLASHYARD_HISTORY_CHAINS: "20", FLASHYARD_HISTORY_DAYS: "7" })).toEqual({
    chainsMax: 20,
    ageMsMax: 7 * dayMs,
  });
});

test.each(["-1", "many", "1e3", "99999999"])("a limit of %s is refused by its name", (text) => {
  expect(() => historyLimits({ FLASHYARD_HISTORY_DAYS: text })).toThrow(UsageError);
  expect(() => historyLimits({ FLASHYARD_HISTORY_DAYS: text })).toThrow(/FLASHYARD_HISTORY_DAYS is ".*"/);
});
