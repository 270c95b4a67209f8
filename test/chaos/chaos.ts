/**
 * `npm run chaos`: a farm of real processes with real ESPHome devices, a seeded plan of real faults, and a verdict from the
 * proxies and the devices. Ends with 1 when a promise is broken or the run itself fails; the folder with all logs and records
 * is kept then.
 *
 * `npm run chaos -- [--faults N] [--minutes M] [--seed S] [--devices N] [--coordinators N] [--keep]`
 */
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { poll, systemClock } from "#actor/clock.ts";
import { isFinished } from "#protocol/chain.ts";
import { connect, type Connection } from "#bus/connection.ts";
import { ChaosFarm } from "#test/chaos/chaos-farm.ts";
import { ChaosUser } from "#test/chaos/chaos-user.ts";
import { gather, readRecords } from "#test/chaos/evidence.ts";
import { type Fault, planFaults } from "#test/chaos/fault-plan.ts";
import { Journal } from "#test/chaos/journal.ts";
import { isClean, judge } from "#test/chaos/judge.ts";
import { NumberedImages } from "#test/chaos/numbered-images.ts";
import { chainRows, faultRows, sessionRows, verdictRows } from "#test/chaos/verdict-table.ts";
import { SimulatedRandom } from "#test/simulation/simulated-random.ts";

const { values } = parseArgs({
  options: {
    faults: { type: "string", default: "240" },
    minutes: { type: "string", default: "7" },
    seed: { type: "string", default: String(Math.floor(Date.now() / 1_000) % 1_000_000) },
    devices: { type: "string", default: "8" },
    coordinators: { type: "string", default: "2" },
    keep: { type: "boolean", default: false },
  },
});
const options = {
  faults: Number(values.faults),
  minutes: Number(values.minutes),
  seed: Number(values.seed),
  devices: Number(values.devices),
  coordinators: Number(values.coordinators),
};

/**
 * A flash whose agent was lost in the last moment is probed after 135 s, and the device may be asked for 60 s; another upload
 * may wait for that.
 */
const settleMsMax = 270_000;
const progressMs = 30_000;
/** Of image bytes to each device: a flash of 200 kB takes 0.5 to 2 s, so that faults meet it in its middle. */
const bytesPerSecond = [100_000, 200_000, 400_000];

const say = (line: string) => void process.stdout.write(`${line}\n`);
const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());
process.once("SIGTERM", () => interrupted.abort());

/** Lets the plan happen. @returns what of it met somebody, when the last fault has been undone */
async function mistreat(farm: ChaosFarm, plan: readonly Fault[], journal: Journal): Promise<readonly Fault[]> {
  const { signal } = interrupted;
  const begunAt = performance.now();
  const suffering: Promise<boolean>[] = [];
  let reportAt = progressMs;
  for (const [index, fault] of plan.entries()) {
    await systemClock.pause(Math.max(0, begunAt + fault.at - performance.now()), signal);
    if (signal.aborted) break;
    journal.note("fault", { fault });
    suffering.push(farm.suffer(fault, signal));
    if (performance.now() - begunAt < reportAt) continue;
    reportAt += progressMs;
    const flashes = farm.devices.reduce((sum, device) => sum + device.flashes().length, 0);
    say(
      `${Math.round((performance.now() - begunAt) / 1000)} s: ${index + 1} faults, ${journal.asked.size} chains, ${flashes} flashes`,
    );
  }
  const hits = await Promise.all(suffering);
  await systemClock.pause(Math.max(0, begunAt + options.minutes * 60_000 - performance.now()), signal);
  return plan.filter((_, index) => hits[index] === true);
}

/** Until every chain has ended, or as long as any can take. */
async function settle(connection: Connection): Promise<void> {
  await poll(systemClock, { everyMs: 2_000, withinMs: settleMsMax, signal: interrupted.signal }, async () => {
    const records = await readRecords(connection).catch(() => undefined);
    return records !== undefined && [...records.values()].every(isFinished) ? true : undefined;
  });
}

/** Waits for the end of everything, judges it and says so. @returns whether every promise was kept */
async function conclude(farm: ChaosFarm, user: ChaosUser, journal: Journal): Promise<boolean> {
  const last = await user.uploadToAll();
  const connection = await connect(farm.serverUrl, "chaos judge");
  try {
    await settle(connection);
    const asked = [...journal.asked.values()];
    const evidence = await gather({ connection, asked, devices: farm.devices, identities: user.identities });
    const verdict = judge(evidence);
    journal.note("verdict", { verdict, evidence });
    const good = evidence.devices.filter(({ runs }) => last.some((chain) => chain === runs)).length;
    for (const line of [...chainRows(evidence), ...sessionRows(evidence)]) say(line);
    say(`answered cancels: ${journal.cancels}; requests that nobody answered: ${journal.unanswered}`);
    say(`devices that run what was asked for last, after the faults: ${good} of ${evidence.devices.length}`);
    for (const end of farm.ownEnds()) say(`ended by itself: ${end}`);
    for (const line of verdictRows(verdict)) say(line);
    return isClean(verdict) && !interrupted.signal.aborted;
  } finally {
    await connection.close();
  }
}

/** @returns whether it came to a verdict, and a clean one */
async function run(folder: string): Promise<boolean> {
  const startedAt = performance.now();
  const seconds = () => `${Math.round((performance.now() - startedAt) / 1000)} s`;
  const random = new SimulatedRandom(options.seed);
  const journal = new Journal(join(folder, "trace.jsonl"));
  await using farm = await ChaosFarm.start({ folder, ...options });
  for (const device of farm.devices) device.throttle(random.pick(bytesPerSecond));
  const { victims } = farm;
  const plan = planFaults(random, { count: options.faults, overMs: options.minutes * 60_000, victims });
  const images = await NumberedImages.make(farm.devices, join(folder, "configurations"));
  await using user = await ChaosUser.connect({ ...options, url: farm.userUrl, devices: farm.devices, images, journal });
  say(`the farm runs after ${seconds()}: ${victims.processes.join(", ")}; ${victims.devices.join(", ")}`);

  await user.warmUp();
  say(`the first builds are done after ${seconds()}`);
  user.start();
  const suffered = await mistreat(farm, plan, journal);
  await user.leave();
  if (interrupted.signal.aborted) return false;
  say(`the last fault is over after ${seconds()}; everything is restored`);
  for (const line of faultRows(suffered)) say(line);
  const isGood = await conclude(farm, user, journal);
  say(`all of it took ${seconds()}`);
  return isGood;
}

const replay = Object.entries(options).map(([name, value]) => `--${name} ${value}`);
say(`seed ${options.seed}: ${options.faults} faults in ${options.minutes} min on ${options.devices} devices`);
const folder = await realpath(await mkdtemp(join(tmpdir(), "flashyard-chaos-")));
let isGood = false;
try {
  isGood = await run(folder);
} finally {
  say(`again: npm run chaos -- ${replay.join(" ")}`);
  if (isGood && !values.keep) await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  else say(`records, logs and the trace are in ${folder}`);
  if (!isGood) process.exitCode = 1;
}
