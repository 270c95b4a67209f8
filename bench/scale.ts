/**
 * `npm run bench:scale`: what the coordinator takes when the farm is large. Prints tables; there is no pass or fail.
 * README.md says what is measured and what is not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, homedir, loadavg, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { onShutdown } from "#actor/shutdown.ts";
import { isFarmError, messageOf, UsageError } from "#protocol/errors.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { resolveServerBinary } from "#bus/server-binary.ts";
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

/** @throws UsageError */
function readPlan(args: readonly string[]) {
  const flag = { type: "boolean" } as const;
  try {
    const options = { quick: flag, help: flag, profile: { type: "string" } } as const;
    const { values } = parseArgs({ args: [...args], options });
    if (values.help === true) return "help";
    const profile = values.profile === undefined ? undefined : resolve(values.profile);
    return { ...(values.quick === true ? plans.quick : plans.usual), profile };
  } catch (cause) {
    throw new UsageError("bad-arguments", `${messageOf(cause)}\n${usage}`, { cause });
  }
}

/** Progress goes to standard error, the report to standard output. */
function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(signal: AbortSignal): Promise<void> {
  const plan = readPlan(process.argv.slice(2));
  if (plan === "help") {
    console.log(usage);
    return;
  }
  const { starts, cycles, watchMs, restMs, profile } = plan;
  const begunAt = performance.now();
  const [load = 0] = loadavg();
  const explicitPath = process.env["FLASHYARD_NATS_SERVER"];
  const named = explicitPath === undefined ? {} : { explicitPath };
  const cacheFolder = join(homedir(), ".cache", "flashyard");
  const binary = await resolveServerBinary({ ...named, cacheFolder, onProgress: progress, signal });
  const folder = await mkdtemp(join(tmpdir(), "flashyard-scale-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const [cpu] = cpus();
  console.log(`command: ${["node", "bench/scale.ts", ...process.argv.slice(2)].join(" ")}`);
  console.log(
    `machine: ${cpus().length} × ${cpu?.model ?? "unknown cpu"}, node ${process.versions.node}, nats-server ${binary.version}; ` +
      `load ${load.toFixed(1)} when it began`,
  );
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
  console.log(`\n${((performance.now() - begunAt) / 1000).toFixed(0)} s in all`);
}

const interruption = new AbortController();
onShutdown(async () => interruption.abort());
try {
  await main(interruption.signal);
} catch (error) {
  if (!interruption.signal.aborted) console.error(isFarmError(error) ? error.message : error);
  process.exitCode = interruption.signal.aborted ? 130 : 1;
}
// A run that was given up may have left sockets that reconnect for ever.
process.exit();
