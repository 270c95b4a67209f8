/**
 * `npm run bench:scale`: what the coordinator takes when the farm is large. Prints tables; there is no pass or fail.
 * README.md says what is measured and what is not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { findServer, printHead, progress, runProgram } from "#bench/program.ts";
import { measureDecisions } from "#bench/scale/decisions.ts";
import { fillHistory } from "#bench/scale/history-fill.ts";
import { underLoad } from "#bench/scale/load.ts";
import { decisionsTable, loadTable, startUpTable } from "#bench/scale/report.ts";
import { startUps } from "#bench/scale/start-up.ts";

const history = 100_000;

const usage = `node bench/scale.ts [--quick] [--profile FOLDER]
  --quick           fewer repetitions, and without the minute until the history's keeper has made its round: less than 40 s
  --profile FOLDER  V8's processor profiles of the coordinator under load`;

const plans = {
  usual: { starts: 5, cycles: 400, watchMs: 10_000, restMs: 75_000 },
  quick: { starts: 2, cycles: 100, watchMs: 4_000, restMs: 0 },
} as const;

interface Plan {
  readonly starts: number;
  readonly cycles: number;
  readonly watchMs: number;
  readonly restMs: number;
  readonly profile: string | undefined;
}

async function main({ starts, cycles, watchMs, restMs, profile }: Plan, signal: AbortSignal): Promise<void> {
  const binary = await findServer(signal);
  const folder = await mkdtemp(join(tmpdir(), "flashyard-scale-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  printHead("scale", `nats-server ${binary.version}`);
  progress("decisions of the core, in this process");
  console.log(`\n${decisionsTable(await measureDecisions(cycles, signal))}`);
  const server = await startEmbeddedServer({ binary: binary.path, folder });
  stack.defer(() => server.stop());
  const { url } = server;
  progress("start-up with nothing in the history");
  const empty = { history: 0, all: await startUps(url, starts, signal) };
  progress(`writing ${history} chains into the history`);
  await fillHistory(url, history, signal, progress);
  progress(`start-up with ${history} chains in the history`);
  const full = { history, all: await startUps(url, starts, signal) };
  console.log(`\n${startUpTable([empty, full])}`);
  const underway = await underLoad({ url, watchMs, restMs, profile, signal, progress });
  console.log(`\n${loadTable(underway, history)}`);
}

const options = { quick: { type: "boolean" }, profile: { type: "string" } } as const;
await runProgram(usage, options, ({ quick = false, profile }, signal) =>
  main({ ...plans[quick ? "quick" : "usual"], profile: profile === undefined ? undefined : resolve(profile) }, signal),
);
