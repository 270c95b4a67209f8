/** A Node program of the farm in a process of its own: started, listened to, ended. */
import { fileURLToPath } from "node:url";
import { plainEnvironment, type ProcessResult, runProcess } from "#actor/subprocess.ts";
import { UnavailableError } from "#protocol/errors.ts";

export interface Child {
  readonly name: string;
  readonly pid: number;
  stop(): Promise<void>;
}

export interface ChildOptions {
  /** As it stands in what goes wrong. */
  readonly name: string;
  readonly entry: URL;
  readonly args?: readonly string[];
  /** Options of Node itself. */
  readonly nodeArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** In the line that says that it has started. */
  readonly readyWords: string;
  readonly onLine?: (line: string) => void;
}

/** An orderly end under load, with a profile to be written, takes some seconds. */
const graceMs = 15_000;

/** Resolves when the program has said that it is ready. @throws UnavailableError with the last words of one that does not come up */
export async function startChild(options: ChildOptions): Promise<Child> {
  const { name, entry, args = [], nodeArgs = [], env = {}, readyWords, onLine } = options;
  const stopping = new AbortController();
  const ready = Promise.withResolvers<"ready">();
  let pid = 0;
  const ended = runProcess({
    argv: [process.execPath, ...nodeArgs, fileURLToPath(entry), ...args],
    // Whoever kills the benchmark leaves none of them behind.
    env: plainEnvironment({ ...env, FLASHYARD_SUPERVISED: "1" }),
    signal: stopping.signal,
    graceMs,
    onStart: (started) => (pid = started),
    onLine: (line) => {
      if (line.includes(readyWords)) ready.resolve("ready");
      // They say why a run went wrong.
      if (/"level":[56]0/.test(line)) process.stderr.write(`${name}: ${line}\n`);
      onLine?.(line);
    },
  });
  const first: "ready" | ProcessResult = await Promise.race([ready.promise, ended]);
  if (first !== "ready") throw new UnavailableError(name, [`${name} does not start:`, ...first.tail].join("\n"));
  const stop = async () => {
    stopping.abort();
    await ended;
  };
  return { name, pid, stop };
}

/** The coordinator as it runs in production, ready. @throws as `startChild` */
export function startCoordinator(
  url: string,
  options: Pick<ChildOptions, "env" | "nodeArgs" | "onLine"> = {},
): Promise<Child> {
  return startChild({
    name: "coordinator",
    entry: new URL("../coordinator/main.ts", import.meta.url),
    readyWords: "coordinator ready",
    ...options,
    env: { ...options.env, FLASHYARD_NATS_URL: url },
  });
}
