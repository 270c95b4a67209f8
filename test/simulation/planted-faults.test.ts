/** The simulation has teeth: each planted mistake of the core or of the shell around it is seen within some seeds. */
import { describe, expect, test } from "vitest";
import * as planted from "#test/simulation/planted-faults.ts";
import * as plantedInShell from "#test/simulation/planted-shell-faults.ts";
import { simulate, type SimulationOptions, type Verdict } from "#test/simulation/simulation.ts";

/** The first seed that breaks one of these promises (`oracle.ts`), or undefined. */
async function firstBroken(
  options: SimulationOptions,
  promises: readonly number[],
  seedMax: number,
): Promise<Verdict | undefined> {
  for (let seed = 1; seed <= seedMax; seed += 1) {
    const verdict = await simulate(seed, options);
    const first = verdict.violations[0];
    if (first !== undefined && promises.includes(Number(first.split(":")[0]))) return verdict;
  }
  return undefined;
}

describe("a mistake in the core is seen at the devices", () => {
  test.each<[string, readonly number[], SimulationOptions]>([
    ["a flash claim that is never refused", [1, 2, 3], { decide: planted.grantsEveryFlashClaim }],
    ["a flash claim for an upload that is being cancelled", [3], { decide: planted.letsCancelledUploadsFlash }],
    ["two uploads that do not exclude each other at a device", [2], { decide: planted.ignoresTheDeviceGate }],
    ["a release without a success", [4], { decide: planted.releasesWithoutSuccess }],
    ["a report of an attempt that is over", [6, 8], { decide: planted.acceptsStaleAttempts }],
    ["a second flash after a lost one", [1], { decide: planted.retriesAfterFlashClaim }],
    ["a cancel that leaves a dispatched upload in place", [3], { decide: planted.forgetsToCancelDispatched }],
    ["a probe that does not wait for the lost flash to die", [6], { decide: planted.probesWithoutWaiting }],
    ["a probe that does not mind that the lost flasher is back", [6], { decide: planted.ignoresReturnedFlashers }],
  ])("%s", async (_name, promises, options) => {
    const verdict = await firstBroken({ ...options, checksRecords: false }, promises, 1_000);
    expect(verdict?.violations[0]).toBeDefined();
  });
});

describe("a mistake in the shell around the core is seen", () => {
  test.each<[string, readonly number[], SimulationOptions]>([
    ["an answer before its commit", [5], { plantFault: plantedInShell.answersBeforeTheCommit }],
    ["records that belong together and are written one by one", [5], { plantFault: plantedInShell.breaksGroupsUp }],
    [
      "a writer that is behind, and whose second write lands after its first was refused",
      [7],
      { plantFault: plantedInShell.pipelinesBySequence, focus: ["coordinator-pause"], mode: "safety" },
    ],
    [
      "a request that is taken again after its chain has ended",
      [1, 3, 7, 8],
      { plantFault: plantedInShell.forgetsEndedChains },
    ],
    [
      "agents that are not heard anew after a commit that failed",
      [9],
      { plantFault: plantedInShell.hearsAgentsOnce, focus: ["coordinator-cut", "agent-kill"] },
    ],
    ["a start that leaves what its predecessor had to do", [9], { plantFault: plantedInShell.leavesThePastAlone }],
    [
      "a standby that never takes over",
      [10],
      { plantFault: plantedInShell.neverTakesOver, focus: ["coordinator-crash", "coordinator-pause"] },
    ],
  ])("%s", async (_name, promises, options) => {
    const verdict = await firstBroken(options, promises, 2_000);
    expect(verdict?.violations[0]).toBeDefined();
  });
});
