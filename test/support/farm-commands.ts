/** Everything that can happen to the commanded farm, as commands of fast-check; each looks at the whole farm when it has run. */
import * as fc from "fast-check";
import type { AdminRequest } from "#protocol/admin.ts";
import { isFinished } from "#protocol/chain.ts";
import { poll, systemClock } from "#actor/clock.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import {
  begin,
  claim,
  claimAll,
  claimFlash,
  letPass,
  passTime,
  race,
  report,
  restart,
  speak,
  workAll,
} from "#test/support/commanded-agents.ts";
import type { CommandedFarm } from "#test/support/commanded-farm.ts";
import { cancel, clean, newRequest, reset, resolveDevice, submit } from "#test/support/commanded-users.ts";
import { type Choice, FarmAct, picked } from "#test/support/farm-act.ts";
import { buildRequest } from "#test/support/farm-builders.ts";
import type { FarmPromises } from "#test/support/farm-promises.ts";
import { commitFaults } from "#test/support/watched-coordinator.ts";

async function loseCommit({ farm, promises, choice }: FarmAct): Promise<void> {
  const fault = picked(commitFaults, choice.pick)!;
  promises.note(`  the next commit is not answered: ${fault}`);
  farm.coordinator.nextFault = fault;
}

/** A request of a coordinator that has been replaced; nobody else gets it. */
function lateRequest({ farm }: FarmAct): AdminRequest {
  return { v: 1, kind: "submit", chains: [buildRequest(farm.nextId(), { configuration: "late" })] };
}

/** Another coordinator takes over, which the older one finds out by its fence only, or in the middle of a commit; or the one that was replaced finds out. */
async function usurp(act: FarmAct): Promise<void> {
  if (act.farm.isUsurped) return wake(act);
  act.promises.note("  another coordinator takes over");
  await act.farm.usurp(act.choice.isOdd ? undefined : lateRequest(act));
}

async function wake(act: FarmAct): Promise<void> {
  if (!act.farm.isUsurped) return;
  act.promises.note("  the replaced coordinator goes on");
  act.promises.deposed(await act.farm.wake(lateRequest(act)));
}

async function restartCoordinator(act: FarmAct): Promise<void> {
  if (act.choice.isOdd) throwAwayOne(act);
  act.promises.note("  the coordinator starts again");
  await act.farm.restartCoordinator();
}

async function cut(act: FarmAct): Promise<void> {
  if (act.choice.isOdd) throwAwayOne(act);
  act.promises.note("  the coordinator's connection is cut");
  await act.farm.coordinator.cut();
}

async function killServer(act: FarmAct): Promise<void> {
  if (act.choice.isOdd) throwAwayOne(act);
  act.promises.note("  the server is killed and starts again");
  await act.farm.restartServer();
}

/** A request that is under way when something else happens. */
function throwAwayOne(act: FarmAct): void {
  const chains = [newRequest(act)];
  act.promises.requested(chains);
  act.promises.note(`  submits ${chains[0]!.id}, not listening`);
  act.farm.throwAway({ v: 1, kind: "submit", chains });
}

/** How often each comes. What agents say comes more often than what users ask, or no chain would live long enough to flash. */
const acts: readonly (readonly [number, (act: FarmAct) => Promise<void>])[] = [
  [7, submit],
  [4, cancel],
  [2, clean],
  [1, reset],
  [2, resolveDevice],
  [5, claim],
  [4, claimFlash],
  [5, begin],
  [6, report],
  [2, claimAll],
  [2, race],
  [3, speak],
  [2, restart],
  [6, passTime],
  [3, loseCommit],
  [1, restartCoordinator],
  [2, usurp],
];
/** What takes a tenth of a second and more. */
const slowActs: readonly (readonly [number, (act: FarmAct) => Promise<void>])[] = [
  [1, cut],
  [1, killServer],
];

class FarmCommand implements fc.AsyncCommand<FarmPromises, CommandedFarm> {
  readonly #run: (act: FarmAct) => Promise<void>;
  readonly #choice: Choice;

  constructor(run: (act: FarmAct) => Promise<void>, choice: Choice) {
    this.#run = run;
    this.#choice = choice;
  }

  check(): boolean {
    return true;
  }

  async run(promises: FarmPromises, farm: CommandedFarm): Promise<void> {
    promises.note(this.toString());
    await this.#run(new FarmAct(promises, farm, this.#choice));
    await look(promises, farm);
  }

  toString(): string {
    const { pick, other, isOdd, isThrownAway } = this.#choice;
    return `${this.#run.name}(${pick}, ${other}${isOdd ? ", odd" : ""}${isThrownAway ? ", thrown away" : ""})`;
  }
}

async function look(promises: FarmPromises, farm: CommandedFarm): Promise<Farm["chains"]> {
  await farm.settled();
  const sight = await farm.look();
  const ended = await farm.ended(promises.missing(sight.farm));
  promises.check(sight, ended, farm.hasFailedCommits);
  await farm.untilGiven(sight.farm);
  return sight.farm.chains;
}

const choice: fc.Arbitrary<Choice> = fc.record({
  pick: fc.nat(99),
  other: fc.nat(99),
  isOdd: fc.nat(5).map((n) => n === 5),
  isThrownAway: fc.nat(8).map((n) => n === 8),
});

const arbitraryOf = (weighted: typeof acts) =>
  weighted.map(([weight, run]) => ({ weight, arbitrary: choice.map((made) => new FarmCommand(run, made)) }));

/** @param replayPath as a failure prints it */
export function farmCommands(replayPath?: string) {
  const arbitrary = fc.oneof(
    ...arbitraryOf(acts.map(([weight, run]) => [weight * 10, run])),
    ...arbitraryOf(slowActs.map(([weight, run]) => [weight * 3, run])),
  );
  return fc.commands([arbitrary], {
    maxCommands: 40,
    size: "max",
    ...(replayPath === undefined ? {} : { replayPath }),
  });
}

export const calm: Choice = { pick: 0, other: 0, isOdd: false, isThrownAway: false };
/** Each lasts longer than a lease; a lost flash waits for five of them, and a job that fails again and again for as many. */
const roundsMax = 30;
const roundMs = 31_000;
const pulseMs = 600;
/** What has ended is taken to the history at each pulse, and on a busy machine that takes longer than the pulses of this test. */
const archivedWithinMs = 8_000;

/** The faults stop, agents do whatever they are given, time passes: promise 6. */
export async function endCalmly(promises: FarmPromises, farm: CommandedFarm): Promise<void> {
  const act = new FarmAct(promises, farm, calm);
  promises.note("the faults stop");
  await wake(act);
  farm.coordinator.nextFault = undefined;
  for (let round = 0; round < roundsMax && !areFinished(await look(promises, farm)); round += 1) {
    await workAll(act);
    await letPass(act, roundMs);
  }
  await untilArchived(act);
  promises.finish(await farm.ended([...promises.accepted]));
}

/** Lets time pass until no chain is live: all of them have ended before. */
export async function untilArchived(act: FarmAct): Promise<void> {
  const { promises, farm } = act;
  const isEmpty = await poll(systemClock, { everyMs: 1, withinMs: archivedWithinMs }, async () => {
    const chains = await look(promises, farm);
    if (chains.size === 0 || !areFinished(chains)) return chains.size === 0;
    await letPass(act, pulseMs);
    return undefined;
  });
  if (isEmpty !== true) promises.neverEnded((await farm.look()).farm);
}

function areFinished(chains: Farm["chains"]): boolean {
  return [...chains.values()].every(isFinished);
}
