/** A short run of the fuzzers; `npm run fuzz` is the long one. */
import { expect, test } from "vitest";
import { fuzz, fuzzTargets } from "#test/hostile/fuzz-targets.ts";

test.each(fuzzTargets)("$name are borne, whatever bytes come", async (target) => {
  expect(await fuzz(target, 20_261_126, 1, 20_000)).toBeUndefined();
});
