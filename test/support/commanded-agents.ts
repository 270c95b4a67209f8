/** What agents of the commanded farm do and say: what they were given, and now and then something near it. */
import { JobName as JobNames } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import { deviceDataTimeoutMs, leaseMs } from "#protocol/limits.ts";
import { bootNumber, failedWith, failures, successes } from "#test/support/farm-builders.ts";
import { askerOf, type FarmAct, picked } from "#test/support/farm-act.ts";
import type { Asker } from "#test/support/farm-promises.ts";
import type { Task } from "#test/support/puppet-agent.ts";

const otherResults: readonly JobResult[] = [
  { kind: "stopped" },
  ...Object.values(failures).map((failure) => failedWith(failure)),
];

/** After this nothing lives of a flash whose agent was away: its connection to the device is gone. */
const deadAfterMs = leaseMs + deviceDataTimeoutMs;

export async function claim(act: FarmAct): Promise<void> {
  if (act.choice.isOdd) return void (await act.say(oddAsker(act) ?? act.stranger, "claim"));
  const task = act.task("offered", "claimed");
  if (task !== undefined) await claimTask(act, task);
}

export async function claimTask(act: FarmAct, task: Task): Promise<void> {
  const verdict = await act.say(askerOf(task), "claim");
  if (verdict !== undefined) task.stage = verdict === "go" ? "claimed" : "over";
}

export async function claimFlash(act: FarmAct): Promise<void> {
  if (act.choice.isOdd) {
    const asker = oddAsker(act) ?? act.stranger;
    if ((await act.say(asker, "flash-claim")) === "go") act.promises.granted(asker, false);
    return;
  }
  const task = act.task("claimed", "flashing");
  if (task !== undefined && isFlash(task)) await claimFlashOf(act, task);
}

export async function claimFlashOf(act: FarmAct, task: Task): Promise<void> {
  const asker = askerOf(task);
  if ((await act.say(asker, "flash-claim")) !== "go") return;
  act.promises.granted(asker, true);
  task.stage = "flashing";
}

/** Comes to the point at which the device is flashed, in one go. */
export async function begin(act: FarmAct): Promise<void> {
  const task = act.task("offered");
  if (task === undefined) return;
  await claimTask(act, task);
  if (task.stage === "claimed" && isFlash(task)) await claimFlashOf(act, task);
}

export async function report(act: FarmAct): Promise<void> {
  const { pick, other, isOdd } = act.choice;
  if (isOdd) {
    const asker = oddAsker(act) ?? act.stranger;
    const result = picked(otherResults, other)!;
    act.promises.reported(asker, result);
    if ((await act.say(asker, result)) === "noted" && wasGiven(act, asker)) act.promises.noted(asker);
    return;
  }
  const task = act.task("claimed", "flashing", "ended");
  if (task === undefined) return;
  await reportTask(act, task, other % 2 === 0 ? successes[task.dispatch.job] : picked(otherResults, pick)!);
}

/** An attempt has one result, however often it is reported. */
export async function reportTask(act: FarmAct, task: Task, result = successes[task.dispatch.job]): Promise<void> {
  const asker = askerOf(task);
  if (task.stage === "flashing") act.promises.closed({ chain: asker.chain });
  task.stage = "ended";
  task.result ??= result;
  act.promises.reported(asker, task.result);
  if ((await act.say(asker, task.result)) === undefined) return;
  act.promises.noted(asker);
  task.stage = "over";
}

/** Everybody claims at once what was offered. */
export async function claimAll(act: FarmAct): Promise<void> {
  const offered = act.farm.puppets.flatMap((puppet) => puppet.tasksAt("offered"));
  await Promise.all(offered.map((task) => claimTask(act, task)));
}

/** Goes on with everything that is in hand, without a failure. */
export async function workAll(act: FarmAct): Promise<void> {
  await claimAll(act);
  for (const task of act.farm.puppets.flatMap((puppet) => puppet.tasksAt("claimed", "flashing", "ended"))) {
    if (task.stage === "claimed" && isFlash(task)) await claimFlashOf(act, task);
    await reportTask(act, task);
  }
}

/** A flash claim and a cancel of the same chain at once: one of them loses. */
export async function race(act: FarmAct): Promise<void> {
  const task = act.task("claimed");
  if (task === undefined || !isFlash(task)) return;
  const reference = act.choice.other % 2 === 0 ? task.dispatch.chain : `${task.dispatch.chain}.upload`;
  const asking = [() => claimFlashOf(act, task), () => act.ask({ v: 1, kind: "cancel", of: { reference } })];
  if (act.choice.pick % 2 === 0) asking.reverse();
  await Promise.all(asking.map((ask) => ask()));
}

export async function speak(act: FarmAct): Promise<void> {
  const { pick, other, isOdd } = act.choice;
  const puppet = act.puppet(pick);
  const stray = { chain: (oddAsker(act) ?? act.stranger).chain, job: puppet.lane, attempt: (other % 3) + 100 };
  const odd = other % 2 === 0 ? { slots: 0 } : { holding: [stray] };
  act.promises.note(`  ${puppet.id} ${isOdd ? `states ${JSON.stringify(odd)} as well` : "speaks"}`);
  await act.farm.speak(puppet, puppet.statement(isOdd ? odd : {}));
}

/** The process is killed and started again; it speaks at once, or not yet. */
export async function restart(act: FarmAct): Promise<void> {
  const puppet = act.puppet(act.choice.pick);
  act.promises.note(`  ${puppet.id} starts again`);
  puppet.restart();
  act.promises.closed({ agent: puppet.id });
  if (act.choice.other % 3 > 0) await act.farm.speak(puppet);
}

const passes = [600, 600, 5_000, 31_000, 31_000, 140_000];

/** Mostly everybody is heard all the time. */
export async function passTime(act: FarmAct): Promise<void> {
  const { pick, other, isOdd } = act.choice;
  const ms = picked(passes, pick)!;
  const speakers = act.farm.puppets.filter((_, index) => !isOdd || (other >> index) % 2 === 0);
  await letPass(act, ms, speakers);
}

export async function letPass(act: FarmAct, ms: number, speakers = act.farm.puppets): Promise<void> {
  act.promises.note(`  ${ms} ms pass, and ${speakers.map(({ id }) => id).join(", ") || "nobody"} is heard`);
  for (const puppet of act.farm.puppets) {
    if (speakers.includes(puppet) || puppet.silentMs + ms < deadAfterMs) continue;
    for (const task of puppet.tasksAt("claimed", "flashing")) task.stage = "over";
    act.promises.closed({ agent: puppet.id });
  }
  await act.farm.passTime(ms, speakers);
}

function isFlash({ dispatch }: Task): boolean {
  return dispatch.job === "upload" && dispatch.mode === "flash";
}

function wasGiven({ farm }: FarmAct, { agent, chain, job, attempt }: Asker): boolean {
  const puppet = farm.puppets.find(({ id }) => id === agent);
  return puppet?.tasks.some(({ dispatch: d }) => d.chain === chain && d.job === job && d.attempt === attempt) === true;
}

/** Something near an attempt that some agent was given. */
function oddAsker(act: FarmAct): Asker | undefined {
  const { pick, other } = act.choice;
  const task = picked(
    act.farm.puppets.flatMap(({ tasks }) => tasks),
    pick,
  );
  if (task === undefined) return undefined;
  const asker = askerOf(task);
  const changes = [
    { attempt: asker.attempt + 1 },
    { attempt: Math.max(1, asker.attempt - 1), boot: bootNumber(task.boot - 1) },
    { boot: bootNumber(task.boot - 1) },
    { boot: bootNumber(task.boot + 1), agent: act.puppet(other).id },
    { job: picked(JobNames.options, other)!, boot: bootNumber(0) },
  ];
  return { ...asker, ...picked(changes, other) };
}
