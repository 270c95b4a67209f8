/**
 * What the real coordinator promises on a real nats-server, whatever users ask, agents say and the machines do.
 *
 * A failure prints its seed, path and replay path, and what was done and answered before. To do it again:
 * `FC_SEED=1234 FC_PATH=5:1 FC_REPLAY_PATH="AAB:F" npx vitest run --project fast test/coordinator/farm.commands.test.ts -t "the name"`.
 * The farm is real: where two messages cross, they may cross otherwise the next time. FC_RUNS sets the number of runs, which
 * take a third of a second each on an idle machine.
 */
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AdminRequest } from "#protocol/admin.ts";
import { CommandedFarm } from "#test/support/commanded-farm.ts";
import { begin, reportTask } from "#test/support/commanded-agents.ts";
import { resolveDevice } from "#test/support/commanded-users.ts";
import { FarmAct } from "#test/support/farm-act.ts";
import { buildRequest, failedWith, failures, uploadRequest } from "#test/support/farm-builders.ts";
import { calm, endCalmly, farmCommands, untilArchived } from "#test/support/farm-commands.ts";
import { FarmPromises } from "#test/support/farm-promises.ts";
import type { Decide } from "#test/support/watched-coordinator.ts";
import { forgetsToCancelDispatched, grantsEveryFlashClaim } from "#test/simulation/planted-faults.ts";

const { FC_SEED, FC_PATH, FC_REPLAY_PATH, FC_RUNS } = process.env;
/** On a machine that is busy with other tests there are fewer of them, and no shorter way to a failure is looked for. */
const runs = Number(FC_RUNS ?? 12);
const enoughMs = FC_RUNS === undefined ? 8_000 : runs * 2_000 + 10_000;

let farm: CommandedFarm;
beforeAll(async () => {
  farm = await CommandedFarm.start();
});
afterAll(() => farm[Symbol.asyncDispose]());

/** A run that would begin after the limit is taken for good. */
function keepsItsPromises(limitMs: number, decide?: Decide) {
  const until = performance.now() + limitMs;
  return fc.asyncProperty(farmCommands(FC_REPLAY_PATH), async (commands) => {
    if (performance.now() > until) return;
    const promises = new FarmPromises();
    await farm.begin(decide);
    await fc.asyncModelRun(() => ({ model: promises, real: farm }), commands);
    await endCalmly(promises, farm);
  });
}

test(
  "the farm keeps its promises, whatever is asked, said, killed, cut off and repeated",
  async () => {
    await fc.assert(keepsItsPromises(enoughMs), {
      numRuns: runs,
      ...(FC_SEED === undefined ? {} : { seed: Number(FC_SEED) }),
      ...(FC_PATH === undefined ? {} : { path: FC_PATH, endOnFailure: true }),
    });
  },
  enoughMs + 30_000,
);

test("a replaced coordinator does not put what it had gathered over what the history has by now", async () => {
  await farm.begin();
  const promises = new FarmPromises();
  const act = new FarmAct(promises, farm, calm);
  const upload = uploadRequest(farm.nextId());
  promises.requested([upload]);
  await act.ask({ v: 1, kind: "submit", chains: [upload] });
  await farm.untilGiven((await farm.look()).farm);
  await begin(act);
  await reportTask(act, act.task("flashing")!, failedWith(failures.uncertain));
  const late: AdminRequest = { v: 1, kind: "submit", chains: [buildRequest(farm.nextId())] };
  await farm.usurp(late);
  await untilArchived(act);
  await resolveDevice(act);
  await untilArchived(act);
  promises.deposed(await farm.wake(late));
  promises.finish(await farm.ended([upload.id]));
});

test.each<[string, Decide, readonly number[]]>([
  ["a flash claim that is never refused", grantsEveryFlashClaim, [1, 2]],
  ["a cancel that leaves a dispatched upload in place", forgetsToCancelDispatched, [2, 4]],
])("%s is seen within a few runs", async (_name, decide, promises) => {
  const { failed, errorInstance } = await fc.check(keepsItsPromises(Infinity, decide), {
    numRuns: 20,
    seed: 1,
    endOnFailure: true,
  });
  expect(failed).toBe(true);
  expect(String(errorInstance)).toMatch(new RegExp(`promise [${promises.join("")}] is broken`));
});
