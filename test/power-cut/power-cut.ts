/**
 * `npm run power-cut`: does what was answered `accepted` survive a power cut? Linux, as root.
 *
 * Ends with 0 when nothing is lost with flashyard's settings and something with NATS's own; 1 when not; 2 when it was called
 * wrongly or this machine cannot do it; 130 when it was interrupted.
 */
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { resolveServerBinary } from "#bus/server-binary.ts";
import { isFarmError, messageOf, UsageError } from "#protocol/errors.ts";
import { type Setting, settings } from "#test/power-cut/crash-rig.ts";
import { cutOnce } from "#test/power-cut/one-cut.ts";
import { type CutFigures, header, row, verdictOn } from "#test/power-cut/verdict.ts";
import { missingForDisks } from "#test/power-cut/volatile-disk.ts";

const usage = "node test/power-cut/power-cut.ts [--cuts N]   N power cuts a setting, 1 to 100; 5 when left out";

/** From shorter than a commit of an ext4 journal (5 s) to longer, over and over. */
const busyMsOf = [1_000, 1_750, 2_500, 3_500, 5_500] as const;

/** Two idle cores need 5 s a cut. No round is begun after the first limit, and nothing goes on after the second: three minutes. */
const cutMsUsual = 8_000;
const cutMsMax = 11_500;

/** @throws UsageError */
function readCuts(args: readonly string[]): number {
  let given: string | undefined;
  try {
    given = parseArgs({ args: [...args], options: { cuts: { type: "string" } } }).values.cuts;
  } catch (cause) {
    throw new UsageError("bad-arguments", `${messageOf(cause)}\n${usage}`, { cause });
  }
  const cuts = Number(given ?? 5);
  if (Number.isInteger(cuts) && cuts >= 1 && cuts <= 100) return cuts;
  throw new UsageError("bad-arguments", `--cuts takes a whole number from 1 to 100, not ${given}\n${usage}`);
}

async function main(interruption: AbortSignal): Promise<boolean> {
  const cuts = readCuts(process.argv.slice(2));
  const missing = await missingForDisks();
  if (missing !== undefined) throw new UsageError("machine", `power-cut cannot run here: ${missing}`);
  const named = process.env["FLASHYARD_NATS_SERVER"];
  const binary = await resolveServerBinary({
    ...(named === undefined ? {} : { explicitPath: named }),
    cacheFolder: join(homedir(), ".cache", "flashyard"),
    onProgress: (line) => process.stderr.write(`${line}\n`),
    signal: interruption,
  });
  const signal = AbortSignal.any([interruption, AbortSignal.timeout(cuts * settings.length * cutMsMax)]);
  const begunAt = performance.now();
  const lastBeginAt = begunAt + cuts * settings.length * cutMsUsual;
  const folder = await realpath(await mkdtemp(join(tmpdir(), "flashyard-power-cut-")));
  try {
    const figures: Record<Setting, CutFigures[]> = { flashyard: [], "one-second": [], "nats-default": [] };
    for (let cut = 0; cut < cuts && performance.now() < lastBeginAt; cut++) {
      for (const setting of settings) {
        const busyMs = busyMsOf[cut % busyMsOf.length] ?? busyMsOf[0];
        const place = join(folder, `${setting}-${cut}`);
        const found = await cutOnce({ setting, binary: binary.path, folder: place, busyMs, signal });
        if (figures.flashyard.length === 0) console.log(header());
        figures[setting].push(found);
        console.log(row(setting, found));
      }
    }
    const { isProven, lines } = verdictOn(figures);
    console.log(["", ...lines].join("\n"));
    const seconds = ((performance.now() - begunAt) / 1000).toFixed(0);
    console.log(
      `${figures.flashyard.length} of ${cuts} cuts a setting, nats-server ${binary.version}, ${seconds} s in all`,
    );
    return isProven;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const interruption = new AbortController();
// A second signal must not end what takes the mounts away.
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => interruption.abort("interrupted"));
try {
  process.exitCode = (await main(interruption.signal)) ? 0 : 1;
} catch (error) {
  console.error(isFarmError(error) ? error.message : error);
  process.exitCode = interruption.signal.aborted ? 130 : error instanceof UsageError ? 2 : 1;
}
