/** A server that the benchmark starts as its child on a loopback port, and ends by its process id. */
import { connect, createServer } from "node:net";
import { type Clock, poll, systemClock } from "#actor/clock.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { UnavailableError } from "#protocol/errors.ts";

export interface ChildServer {
  readonly port: number;
  /** SIGTERM, and SIGKILL two seconds later; resolves when the process is gone. */
  stop(): Promise<void>;
}

/** Both servers of the benchmark listen after less than 0.1 s on an idle machine. */
const startMsMax = 10_000;

/**
 * Starts `argvFor(port)` and waits until the port takes connections.
 * @throws UnavailableError with the server's last words when it does not.
 */
export async function startChildServer(
  argvFor: (port: number) => readonly string[] | Promise<readonly string[]>,
  clock: Clock = systemClock,
): Promise<ChildServer> {
  const port = await freePort();
  const argv = await argvFor(port);
  const abort = new AbortController();
  let hasEnded = false;
  const running = runProcess({ argv, env: plainEnvironment(), signal: abort.signal }).finally(() => (hasEnded = true));
  const stop = async () => {
    abort.abort();
    await running;
  };
  const isListening = await poll(clock, { everyMs: 10, withinMs: startMsMax }, async () =>
    hasEnded ? false : (await takesConnections(port)) ? true : undefined,
  );
  if (isListening === true) return { port, stop };
  abort.abort();
  const { tail } = await running;
  throw new UnavailableError("server-not-started", [`${argv.join(" ")} did not start:`, ...tail].join("\n"));
}

async function takesConnections(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    return await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}

/** A port that is free now; nobody else may take it before the server does, or the start fails and says so. */
async function freePort(): Promise<number> {
  const server = createServer();
  try {
    return await new Promise<number>((resolve, reject) => {
      server.once("error", (cause) =>
        reject(new UnavailableError("no-port", "no port on 127.0.0.1 is free", { cause })),
      );
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        if (address !== null && typeof address === "object") resolve(address.port);
      });
    });
  } finally {
    server.close();
  }
}
