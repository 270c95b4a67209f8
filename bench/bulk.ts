/**
 * `npm run bench:bulk`: how a bulk passes the farm, with real bytes and with nothing to do. Prints tables; there is no pass or fail.
 * README.md says what is measured and what is not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, homedir, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { onShutdown } from "#actor/shutdown.ts";
import { isFarmError, messageOf, UsageError } from "#protocol/errors.ts";
import { resolveServerBinary } from "#bus/server-binary.ts";
import { type NoOpRun, noOpRuns } from "#bench/bulk/no-op-run.ts";
import { noOpTable, transferTable } from "#bench/bulk/report.ts";
import { makeBundles, type TransferRun, transferRun } from "#bench/bulk/transfer-run.ts";

const usage = `node bench/bulk.ts [--quick]
  --quick  one round instead of three, in less than 40 s`;

/** @throws UsageError */
function readRounds(args: readonly string[]): number | "help" {
  const flag = { type: "boolean" } as const;
  try {
    const { values } = parseArgs({ args: [...args], options: { quick: flag, help: flag } });
    if (values.help === true) return "help";
    return values.quick === true ? 1 : 3;
  } catch (cause) {
    throw new UsageError("bad-arguments", `${messageOf(cause)}\n${usage}`, { cause });
  }
}

/** Progress goes to standard error, the report to standard output. */
function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(signal: AbortSignal): Promise<void> {
  const rounds = readRounds(process.argv.slice(2));
  if (rounds === "help") {
    console.log(usage);
    return;
  }
  const begunAt = performance.now();
  const [load = 0] = loadavg();
  const cacheFolder = join(homedir(), ".cache", "flashyard");
  const explicitPath = process.env["FLASHYARD_NATS_SERVER"];
  const named = explicitPath === undefined ? {} : { explicitPath };
  const server = await resolveServerBinary({ ...named, cacheFolder, onProgress: progress, signal });
  const folder = await mkdtemp(join(tmpdir(), "flashyard-bulk-"));
  try {
    progress("esphome bundle, once a device");
    const bundles = await makeBundles(cacheFolder, join(folder, "configurations"), signal);
    const transfers: TransferRun[] = [];
    const bulks: (readonly NoOpRun[])[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      progress(`round ${round} of ${rounds}: devices with bundles and artifacts`);
      transfers.push(await inFolder(folder, (own) => transferRun(server.path, own, bundles, signal)));
      progress(`round ${round} of ${rounds}: no-op chains`);
      bulks.push(await inFolder(folder, (own) => noOpRuns(server.path, own, signal)));
    }
    const [cpu] = cpus();
    console.log(`command: ${["node", "bench/bulk.ts", ...process.argv.slice(2)].join(" ")}`);
    console.log(
      `machine: ${cpus().length} × ${cpu?.model ?? "unknown cpu"}, node ${process.versions.node}, nats-server ${server.version}; ` +
        `load ${load.toFixed(1)} when it began`,
    );
    console.log(`\n${transferTable(transfers, bundles)}\n\n${noOpTable(bulks)}`);
    console.log(`\n${((performance.now() - begunAt) / 1000).toFixed(0)} s in all`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What a run has written is gone before the next one: its pages would be written to the disk meanwhile. */
async function inFolder<T>(folder: string, work: (own: string) => Promise<T>): Promise<T> {
  const own = await mkdtemp(join(folder, "run-"));
  try {
    return await work(own);
  } finally {
    await rm(own, { recursive: true, force: true });
  }
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
