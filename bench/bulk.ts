/**
 * `npm run bench:bulk`: how a bulk passes the farm, with real bytes and with nothing to do. Prints tables; there is no pass or fail.
 * README.md says what is measured and what is not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NoOpRun, noOpRuns } from "#bench/bulk/no-op-run.ts";
import { noOpTable, transferTable } from "#bench/bulk/report.ts";
import { makeBundles, type TransferRun, transferRun } from "#bench/bulk/transfer-run.ts";
import { cacheFolder, findServer, printHead, progress, runProgram } from "#bench/program.ts";

const usage = `node bench/bulk.ts [--quick]
  --quick  one round instead of three, in less than 40 s`;

async function main(rounds: number, signal: AbortSignal): Promise<void> {
  const server = await findServer(signal);
  const folder = await mkdtemp(join(tmpdir(), "flashyard-bulk-"));
  try {
    progress("esphome bundle, once a device");
    const bundles = await makeBundles(cacheFolder(), join(folder, "configurations"), signal);
    const transfers: TransferRun[] = [];
    const bulks: (readonly NoOpRun[])[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      progress(`round ${round} of ${rounds}: devices with bundles and artifacts`);
      transfers.push(await inFolder(folder, (own) => transferRun(server.path, own, bundles, signal)));
      progress(`round ${round} of ${rounds}: no-op chains`);
      bulks.push(await inFolder(folder, (own) => noOpRuns(server.path, own, signal)));
    }
    printHead("bulk", `nats-server ${server.version}`);
    console.log(`\n${transferTable(transfers, bundles)}\n\n${noOpTable(bulks)}`);
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

await runProgram(usage, { quick: { type: "boolean" } }, ({ quick = false }, signal) => main(quick ? 1 : 3, signal));
