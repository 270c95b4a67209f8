/**
 * Feeds every decoder and the upload client with arbitrary and mutated bytes, and says what one of them does not bear; ends with 1 then.
 * `npm run fuzz -- [--runs 20] [--seed N]`: so many times the runs of `npm test`; all of it ends after a minute.
 */
import { parseArgs } from "node:util";
import { fuzz, fuzzTargets } from "#test/hostile/fuzz-targets.ts";

const { values } = parseArgs({ options: { runs: { type: "string", default: "20" }, seed: { type: "string" } } });
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const withinMs = 50_000 / fuzzTargets.length;
for (const target of fuzzTargets) {
  const began = performance.now();
  const found = await fuzz(target, seed, Number(values.runs), withinMs);
  const seconds = ((performance.now() - began) / 1_000).toFixed(1);
  process.stdout.write(
    `${target.name}: ${found === undefined ? "borne" : `NOT borne: ${found}`} (seed ${seed}, ${seconds} s)\n`,
  );
  if (found !== undefined) process.exitCode = 1;
}
