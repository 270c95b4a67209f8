/** A server that runs as our child on a port of 127.0.0.1, and is ended by its process id. */
import { type Clock, poll, systemClock } from "#actor/clock.ts";
import { freePort, requireFreePort, takesConnections } from "#actor/loopback-port.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment, type ProcessResult, runProcess } from "#actor/subprocess.ts";
import { UnavailableError } from "#protocol/errors.ts";

export interface ChildServer {
  readonly port: number;
  /** Settles when the process is gone, for whatever reason. */
  readonly ended: Promise<ProcessResult>;
  /** SIGTERM, and SIGKILL two seconds later; resolves when the process is gone. */
  stop(): Promise<void>;
}

export interface ChildServerOptions {
  /** As it stands in sentences. */
  readonly name: string;
  /** Absent: any free port. */
  readonly port?: number;
  readonly argvFor: (port: number) => readonly string[] | Promise<readonly string[]>;
  /** Where the process is noted while it runs, so that a successor of a killed parent finds it. */
  readonly ledger?: GroupLedger;
  readonly onStart?: (pid: number) => void;
  readonly clock?: Clock;
}

/** nats-server and Redis listen after less than 0.1 s on an idle machine; a store with a million records takes two seconds. */
const startMsMax = 20_000;

/**
 * Starts the server and waits until its port takes connections.
 * @throws UsageError `port-taken`; UnavailableError `server-not-started` with the server's last words.
 */
export async function startChildServer(options: ChildServerOptions): Promise<ChildServer> {
  const { name, argvFor, ledger, onStart, clock = systemClock } = options;
  const port = options.port ?? (await freePort());
  await requireFreePort(port, name);
  const argv = await argvFor(port);
  const abort = new AbortController();
  let hasEnded = false;
  const ended = runProcess({
    argv,
    env: plainEnvironment(),
    signal: abort.signal,
    clock,
    ...(ledger === undefined ? {} : { ledger }),
    ...(onStart === undefined ? {} : { onStart }),
  }).finally(() => (hasEnded = true));
  const stop = async () => {
    abort.abort();
    await ended;
  };
  const isListening = await poll(clock, { everyMs: 10, withinMs: startMsMax }, async () =>
    hasEnded ? false : (await takesConnections(port)) ? true : undefined,
  );
  if (isListening === true) return { port, ended, stop };
  abort.abort();
  const { end, tail } = await ended;
  const words = end.kind === "not-started" ? [end.detail] : tail;
  throw new UnavailableError("server-not-started", [`${argv.join(" ")} did not start:`, ...words].join("\n"));
}
