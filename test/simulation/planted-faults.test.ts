/**
 * The simulation has teeth: each planted mistake of the core, of what it writes down, of the shell around it and of the agents is
 * seen within some seeds, by the promise (`oracle.ts`) that it breaks.
 */
import { expect, test } from "vitest";
import * as byAgent from "#test/simulation/planted-agent-faults.ts";
import * as inCore from "#test/simulation/planted-faults.ts";
import * as inRecords from "#test/simulation/planted-record-faults.ts";
import * as inShell from "#test/simulation/planted-shell-faults.ts";
import { simulate, type SimulationOptions, type Verdict } from "#test/simulation/simulation.ts";

/** Seeds that a mistake may need. Most need a handful, the rarest some 250; with more than this the farm has grown blind to it. */
const seedMax = 4_000;

interface Planted {
  readonly name: string;
  /** One of these is broken first. */
  readonly breaks: readonly number[];
  readonly options: SimulationOptions;
  /** Where the search begins: near a seed that shows a rare mistake, which is some hundred seeds from the next one. */
  readonly from?: number;
}

/** The devices, the answers and the ends are judged, and not the farm as the core sees it. */
const seenOutside = { checksRecords: false } as const;

const planted: readonly Planted[] = [
  {
    name: "a flash claim that is never refused",
    breaks: [1, 2, 3],
    options: { decide: inCore.grantsEveryFlashClaim, focus: ["agent-cut"], mode: "safety", ...seenOutside },
  },
  {
    name: "a flash claim for an upload that is being cancelled",
    breaks: [3],
    options: { decide: inCore.letsCancelledUploadsFlash, focus: [], mode: "safety", ...seenOutside },
  },
  {
    name: "two uploads that do not exclude each other at a device",
    breaks: [2],
    options: { decide: inCore.ignoresTheDeviceGate, ...seenOutside },
  },
  {
    name: "a device that is locked by the name of its configuration only",
    breaks: [2],
    options: { decide: inCore.locksDevicesByName, ...seenOutside },
  },
  {
    name: "a release without a success",
    breaks: [4],
    options: { decide: inCore.releasesWithoutSuccess, ...seenOutside },
  },
  {
    name: "a report of an attempt that is over",
    breaks: [6, 8],
    options: { decide: inCore.acceptsStaleAttempts, focus: ["agent-cut"], mode: "safety", ...seenOutside },
  },
  {
    name: "a second flash after a lost one",
    breaks: [1],
    options: { decide: inCore.retriesAfterFlashClaim, ...seenOutside },
  },
  {
    name: "a second flash after one that broke off behind its last byte",
    breaks: [1],
    options: { decide: inRecords.retriesAfterTheLastByte, ...seenOutside },
  },
  {
    name: "a cancel that leaves a dispatched upload in place",
    breaks: [3],
    options: { decide: inCore.forgetsToCancelDispatched, focus: [], mode: "safety", ...seenOutside },
  },
  {
    name: "a probe that does not wait for the lost flash to die",
    breaks: [6],
    options: { decide: inCore.probesWithoutWaiting, focus: ["agent-cut"], ...seenOutside },
  },
  {
    name: "a probe that does not mind that the lost flasher is back",
    breaks: [6],
    options: { decide: inCore.ignoresReturnedFlashers, ...seenOutside },
  },
  {
    name: "an unknown end that is called a success",
    breaks: [6, 8],
    options: { decide: inRecords.takesUnknownForSuccess, ...seenOutside },
  },
  {
    name: "a request that leaves the older one of its configuration alive",
    breaks: [3],
    options: { decide: inRecords.leavesSupersededAlive, ...seenOutside },
  },
  {
    name: "a lost build that is never given out again",
    breaks: [9],
    options: { decide: inRecords.neverRepeatsLostBuilds, mode: "liveness", focus: ["agent-kill"] },
  },
  {
    name: "a build gate that is open while trees are taken away",
    breaks: [11],
    options: { decide: inCore.ignoresTheBuildGate, ...seenOutside },
  },
  {
    name: "a reset that does not wait for proven deaths",
    breaks: [11],
    options: { decide: inRecords.cleansWithoutProof, ...seenOutside },
  },
  {
    name: "a cancel that takes a running build for dead at once",
    breaks: [11],
    options: { decide: inRecords.cancelsWithoutProof, ...seenOutside },
  },
  {
    name: "a rename that locks its new name only",
    breaks: [3],
    options: { decide: inCore.locksTheNewNameOnly, ...seenOutside },
  },
  {
    name: "a person's word about a device that is taken for its opposite",
    breaks: [7],
    options: { decide: inCore.mishearsThePerson, ...seenOutside },
  },
  {
    name: "a person's word that is lost because its chain was just being archived",
    from: 760,
    breaks: [5, 7],
    options: { decide: inCore.forgetsWhatWasSettled, focus: ["server-restart"], ...seenOutside },
  },
  {
    name: "a release outside of the commit of its success",
    breaks: [1, 5, 6, 7, 8],
    options: { decide: inRecords.releasesOutsideTheCommit, focus: ["coordinator-crash"] },
  },
  {
    name: "an end of a build that takes its upload along in memory only",
    breaks: [5, 7],
    options: { decide: inRecords.forgetsToWriteTheCascade },
  },
  { name: "an answer before its commit", breaks: [5], options: { plantFault: inShell.answersBeforeTheCommit } },
  {
    name: "records that belong together and are written one by one",
    breaks: [5],
    options: { plantFault: inShell.breaksGroupsUp },
  },
  {
    name: "a writer that is behind, and whose second write lands after its first was refused",
    breaks: [7],
    options: { plantFault: inShell.pipelinesBySequence, focus: ["coordinator-pause"], mode: "safety" },
  },
  {
    name: "two writers without a fence",
    breaks: [1, 2, 3, 5, 7, 8],
    options: {
      plantFault: inShell.commitsWithoutAFence,
      focus: ["coordinator-cut", "server-restart"],
      mode: "safety",
      ...seenOutside,
    },
  },
  {
    name: "a report that is noted before its commit",
    breaks: [12],
    options: { plantFault: inShell.notesBeforeTheCommit, ...seenOutside },
  },
  {
    name: "a request that is taken again after its chain has ended",
    breaks: [1, 3, 7, 8],
    options: { plantFault: inShell.forgetsEndedChains },
  },
  {
    name: "agents that are not heard anew after a commit that failed",
    from: 700,
    breaks: [9],
    options: { plantFault: inShell.hearsAgentsOnce, focus: ["server-restart", "agent-pause"], mode: "liveness" },
  },
  {
    name: "a start that leaves what its predecessor had to do",
    breaks: [9],
    options: { plantFault: inShell.leavesThePastAlone },
  },
  { name: "an end that reaches no history", breaks: [5], options: { plantFault: inShell.losesTheHistory } },
  {
    name: "a standby that never takes over",
    breaks: [10],
    options: { plantFault: inShell.neverTakesOver, focus: ["coordinator-pause", "coordinator-crash"], mode: "safety" },
  },
  {
    name: "an agent that flashes without a claim",
    breaks: [1, 2, 3],
    options: { agentFault: byAgent.flashesWithoutAClaim, focus: ["agent-cut"], mode: "safety", ...seenOutside },
  },
  {
    name: "a rollout that is flashed in one go",
    breaks: [13],
    options: { decide: inCore.flashesAllWavesAtOnce, focus: [], ...seenOutside },
  },
  {
    name: "an agent that confirms without asking the device",
    breaks: [6],
    options: { agentFault: byAgent.confirmsUnasked, focus: [] },
  },
  {
    name: "an agent that works without a claim",
    breaks: [1, 3, 7, 8],
    options: { agentFault: byAgent.worksWithoutAClaim, focus: ["agent-kill", "agent-shutdown"], ...seenOutside },
  },
  {
    name: "an agent that starts a flash on a claim of long ago",
    breaks: [2, 3, 6],
    options: { agentFault: byAgent.startsOnOldClaims, focus: ["agent-pause"], ...seenOutside },
  },
  {
    name: "an agent that builds on when its lease is over",
    from: 240,
    breaks: [11],
    options: { agentFault: byAgent.outlivesItsLease, focus: ["agent-cut"], ...seenOutside },
  },
  {
    name: "an agent that keeps no result until it is noted",
    breaks: [12],
    options: { agentFault: byAgent.keepsNoResults, focus: ["agent-kill"], ...seenOutside },
  },
];

/** The first seed that breaks one of these promises, or undefined. */
async function firstBroken({ options, breaks, from = 1 }: Planted): Promise<Verdict | undefined> {
  for (let seed = from; seed < from + seedMax; seed += 1) {
    const verdict = await simulate(seed, options);
    const first = verdict.violations[0];
    if (first !== undefined && breaks.includes(Number(first.split(":")[0]))) return verdict;
  }
  return undefined;
}

test("at least twenty different mistakes are planted", () => {
  const mistakes = planted.map(({ options }) => options.decide ?? options.plantFault ?? options.agentFault);
  expect(new Set(mistakes).size).toBe(planted.length);
  expect(planted.length).toBeGreaterThanOrEqual(20);
});

test.each(planted.map((mistake) => [mistake.name, mistake] as const))(
  "%s is seen",
  async (_name, mistake) => {
    const verdict = await firstBroken(mistake);
    expect(verdict?.violations[0]).toBeDefined();
  },
  120_000,
);
