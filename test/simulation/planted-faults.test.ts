/** The simulation has teeth: each planted mistake of the core or of the shell around it is seen within some seeds. */
import { describe, expect, test } from "vitest";
import * as planted from "#test/simulation/planted-faults.ts";
import { simulate, type SimulationOptions, type Verdict } from "#test/simulation/simulation.ts";

/** The first seed that breaks a promise of these numbers (`oracle.ts`), or undefined. */
async function firstBroken(
  options: SimulationOptions,
  promises: string,
  seedMax: number,
): Promise<Verdict | undefined> {
  for (let seed = 1; seed <= seedMax; seed += 1) {
    const verdict = await simulate(seed, options);
    const first = verdict.violations[0];
    if (first !== undefined && promises.includes(first.charAt(0))) return verdict;
  }
  return undefined;
}

describe("a mistake in the core is seen at the devices", () => {
  test.each<[string, string, SimulationOptions]>([
    ["a flash claim that is never refused", "123", { decide: planted.grantsEveryFlashClaim }],
    ["a flash claim for an upload that is being cancelled", "3", { decide: planted.letsCancelledUploadsFlash }],
    ["two uploads that do not exclude each other at a device", "2", { decide: planted.ignoresTheDeviceGate }],
    ["a release without a success", "4", { decide: planted.releasesWithoutSuccess }],
    ["a report of an attempt that is over", "68", { decide: planted.acceptsStaleAttempts }],
    ["a second flash after a lost one", "1", { decide: planted.retriesAfterFlashClaim }],
    ["a cancel that leaves a dispatched upload in place", "3", { decide: planted.forgetsToCancelDispatched }],
    ["a probe that does not wait for the lost flash to die", "6", { decide: planted.probesWithoutWaiting }],
    ["a probe that does not mind that the lost flasher is back", "6", { decide: planted.ignoresReturnedFlashers }],
  ])("%s", async (_name, promises, options) => {
    const verdict = await firstBroken({ ...options, checksRecords: false }, promises, 1_000);
    expect(verdict?.violations[0]).toBeDefined();
  });
});

describe("a mistake in the shell around the core is seen", () => {
  test.each<[string, string, SimulationOptions]>([
    ["an answer before its commit", "5", { shellFaults: { effectsBeforeCommit: true } }],
    ["records that belong together and are written one by one", "3789", { shellFaults: { ignoresAtomic: true } }],
    [
      "a writer that is behind, and whose second write lands after its first was refused",
      "67",
      { shellFaults: { pipelinesBySequence: true }, focus: ["coordinator-rival", "coordinator-crash"] },
    ],
    ["a request that is taken again after its chain has ended", "1378", { shellFaults: { forgetsHistory: true } }],
    [
      "agents that are not heard anew after a commit that failed",
      "9",
      { shellFaults: { keepsHeardAfterRebuild: true }, focus: ["coordinator-cut", "agent-kill"] },
    ],
    ["a start that does not do again what the records imply", "9", { shellFaults: { skipsImpliedEffects: true } }],
  ])("%s", async (_name, promises, options) => {
    const verdict = await firstBroken(options, promises, 2_000);
    expect(verdict?.violations[0]).toBeDefined();
  });
});
