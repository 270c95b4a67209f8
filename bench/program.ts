/** What the programs of all benchmarks share: their options, their lines, the nats-server that they find, and how they end. */
import { cpus, loadavg } from "node:os";
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { defaultCacheFolder } from "#actor/agent-settings.ts";
import { onShutdown } from "#actor/shutdown.ts";
import { isFarmError, messageOf, UsageError } from "#protocol/errors.ts";
import { resolveServerBinary, type ServerBinary } from "#bus/server-binary.ts";

/** As the load was when the program began. */
const [load = 0] = loadavg();

type Values<T extends ParseArgsOptionsConfig> = ReturnType<typeof parseArgs<{ options: T }>>["values"];

/** @throws UsageError for options that there are not */
function readOptions<T extends ParseArgsOptionsConfig>(usage: string, options: T): Values<T> {
  try {
    return parseArgs({ options }).values;
  } catch (cause) {
    throw new UsageError("bad-arguments", `${messageOf(cause)}\n${usage}`, { cause });
  }
}

/** @throws UsageError for anything but a whole number */
export function numberFrom(usage: string, name: string, given: string | undefined, usual: number): number {
  if (given === undefined) return usual;
  if (/^[1-9]\d{0,5}$/.test(given)) return Number(given);
  throw new UsageError("bad-arguments", `--${name} takes a whole number from 1 to 999999, not ${given}\n${usage}`);
}

/** Progress goes to standard error, the report to standard output. */
export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The head of a report: how to make it again, and on what. @param programs what else runs, with versions */
export function printHead(name: string, ...programs: readonly string[]): void {
  const runs = [`node ${process.versions.node}`, ...programs].join(", ");
  console.log(`command: ${["node", `bench/${name}.ts`, ...process.argv.slice(2)].join(" ")}`);
  console.log(
    `machine: ${cpus().length} × ${cpus()[0]?.model ?? "unknown cpu"}, ${runs}; load ${load.toFixed(1)} when it began`,
  );
}

/** FLASHYARD_NATS_SERVER, or whatever is found or obtained. @throws UsageError, UnavailableError */
export function findServer(signal?: AbortSignal): Promise<ServerBinary> {
  const explicitPath = process.env["FLASHYARD_NATS_SERVER"];
  return resolveServerBinary({
    ...(explicitPath === undefined ? {} : { explicitPath }),
    ...(signal === undefined ? {} : { signal }),
    cacheFolder: cacheFolder(),
    onProgress: progress,
  });
}

export function cacheFolder(): string {
  return defaultCacheFolder(process.env);
}

/** Runs a benchmark to its end and ends the process; a signal ends it with 130, and `--help` says no more than the usage. */
export async function runProgram<const T extends ParseArgsOptionsConfig>(
  usage: string,
  options: T,
  main: (values: Values<T>, signal: AbortSignal) => Promise<void>,
): Promise<never> {
  const begunAt = performance.now();
  const interruption = new AbortController();
  onShutdown(async () => interruption.abort());
  try {
    const isHelp = process.argv.includes("--help");
    if (isHelp) console.log(usage);
    else {
      await main(readOptions(usage, options), interruption.signal);
      console.log(`\n${((performance.now() - begunAt) / 1000).toFixed(0)} s in all`);
    }
  } catch (error) {
    if (!interruption.signal.aborted) console.error(isFarmError(error) ? error.message : error);
    process.exitCode = interruption.signal.aborted ? 130 : 1;
  }
  // A run that was given up may have left sockets that reconnect for ever.
  process.exit();
}
