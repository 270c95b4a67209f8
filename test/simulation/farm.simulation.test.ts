/**
 * Many farms, each from a seed, each with its own troubles: the four promises hold at the devices, in the answers and in the
 * records, and when the troubles stop every chain ends (`oracle.ts` numbers what is judged).
 *
 * The agents run the production `actor/lane-worker.ts`; the coordinator is the production core in a simulated shell.
 * - `SEED=123 npx vitest run --project fast test/simulation` replays one seed and prints what happened in it.
 * - `SEEDS=20000` runs more of them; `node test/simulation/soak.ts` runs until its time is over.
 */
import { describe, expect, test } from "vitest";
import { simulate, type Verdict } from "#test/simulation/simulation.ts";

const { SEED, SEEDS } = process.env;
const seeds =
  SEED === undefined ? Array.from({ length: Number(SEEDS ?? 700) }, (_, index) => index + 1) : [Number(SEED)];

/** The last of what happened, for whoever reads a failure. */
function story(verdict: Verdict): string {
  const { seed, violations, trace } = verdict;
  return [`seed ${seed} broke: ${violations.join("; ")}`, ...trace.slice(-60), `replay it with SEED=${seed}`].join(
    "\n",
  );
}

describe("the simulated farm", () => {
  test(
    `keeps its promises in ${seeds.length === 1 ? `seed ${seeds[0]}` : `${seeds.length} seeds`}`,
    { timeout: 30_000 + seeds.length * 100 },
    async () => {
      const ends = new Map<string, number>();
      const totals = { chains: 0, sessions: 0, probes: 0 };
      for (const seed of seeds) {
        const verdict = await simulate(seed);
        if (SEED !== undefined) process.stdout.write(`${verdict.trace.join("\n")}\n`);
        expect(verdict.violations, story(verdict)).toEqual([]);
        for (const [end, count] of verdict.ends) ends.set(end, (ends.get(end) ?? 0) + count);
        totals.chains += verdict.chains;
        totals.sessions += verdict.sessions;
        totals.probes += verdict.probes;
        await nextTurn();
      }
      if (seeds.length < 500) return;
      // A farm in which nothing happens keeps every promise; this one meets every end, and lost flashes.
      expect(totals.sessions / seeds.length).toBeGreaterThan(1);
      expect(totals.probes).toBeGreaterThan(20);
      for (const end of [
        "compile succeeded",
        "compile failed",
        "compile cancelled",
        "upload succeeded",
        "upload failed",
        "upload cancelled",
        "upload unknown",
      ]) {
        expect([end, (ends.get(end) ?? 0) > 10]).toEqual([end, true]);
      }
    },
  );

  test("does exactly the same again from the same seed", async () => {
    for (const seed of [1, 7, 42]) expect((await simulate(seed)).trace).toEqual((await simulate(seed)).trace);
  });

  test("does something else from another seed", async () => {
    expect((await simulate(1)).trace).not.toEqual((await simulate(2)).trace);
  });
});

/** Lets vitest speak between two seeds; a simulation itself never gives up its turn of the event loop. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
