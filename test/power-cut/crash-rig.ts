/** The farm's two processes over a store on a disk that may lose its power: the server, and the coordinator that answers. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ChildServer, startChildServer } from "#actor/child-server.ts";
import { poll, systemClock } from "#actor/clock.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import type { Connection } from "#bus/connection.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { declarations } from "#bus/topology.ts";
import { UnavailableError } from "#protocol/errors.ts";

/**
 * `flashyard` is the server as `flashyard up` starts it, `one-second` the same with another `sync_interval`; `nats-default` does
 * not name any, which means two minutes.
 */
export const settings = ["flashyard", "one-second", "nats-default"] as const;
export type Setting = (typeof settings)[number];

/** Ends like the machine when `kill` is called, and in order when it is disposed of. */
export interface Running extends AsyncDisposable {
  kill(): Promise<void>;
}

export interface RunningServer extends Running {
  readonly url: string;
}

/** A busy machine needs two seconds. */
const readyMsMax = 20_000;

/** nats-server gives its streams three quarters of the free disk, and they ask for their limits at once. */
export const storeBytes = 2 * declarations.reduce((sum, { max_bytes: bytes }) => sum + (bytes ?? 0), 1024 ** 3);

/** Where a server whose folder this is keeps its store, and nothing else. */
export function storeOf(folder: string): string {
  return join(folder, "store");
}

/** @throws UnavailableError `server-not-started` */
export async function startServer(setting: Setting, binary: string, folder: string): Promise<RunningServer> {
  let pid = 0;
  const onStart = (started: number) => (pid = started);
  const server: ChildServer =
    setting === "nats-default"
      ? await startDefaultServer(binary, folder, onStart)
      : await startEmbeddedServer({
          binary,
          folder,
          onStart,
          ...(setting === "one-second" ? { syncInterval: "1s" } : {}),
        });
  return {
    url: `nats://127.0.0.1:${server.port}`,
    async kill() {
      endAtOnce(pid);
      await server.ended;
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

/** As the embedded server, without the one line that matters. */
async function startDefaultServer(
  binary: string,
  folder: string,
  onStart: (pid: number) => void,
): Promise<ChildServer> {
  await mkdir(folder, { recursive: true });
  const configuration = join(folder, "nats-server.conf");
  return startChildServer({
    name: "nats-server",
    onStart,
    async argvFor(port) {
      const lines = [
        `listen: "127.0.0.1:${port}"`,
        "server_name: flashyard",
        "max_payload: 8MB",
        `log_file: ${JSON.stringify(join(folder, "nats-server.log"))}`,
        `jetstream { store_dir: ${JSON.stringify(storeOf(folder))} }`,
        "",
      ];
      await writeFile(configuration, lines.join("\n"));
      return [binary, "--config", configuration];
    },
  });
}

/** Resolves when it answers requests. @throws UnavailableError `coordinator` with its last words. */
export async function startCoordinator(server: RunningServer, user: Connection): Promise<Running> {
  const stopping = new AbortController();
  let pid = 0;
  let hasEnded = false;
  const ended = runProcess({
    argv: [process.execPath, fileURLToPath(new URL("../../coordinator/main.ts", import.meta.url))],
    env: plainEnvironment({ FLASHYARD_NATS_URL: server.url, FLASHYARD_SUPERVISED: "1" }),
    signal: stopping.signal,
    onStart: (started) => (pid = started),
  }).finally(() => (hasEnded = true));
  const isReady = await poll(systemClock, { everyMs: 20, withinMs: readyMsMax }, () => {
    if (hasEnded) return false;
    return askAdmin(user, { v: 1, kind: "status" }).then(
      () => true,
      () => undefined,
    );
  });
  if (isReady !== true) {
    stopping.abort();
    throw new UnavailableError(
      "coordinator",
      ["the coordinator does not start:", ...(await ended).tail.slice(-3)].join("\n"),
    );
  }
  return {
    async kill() {
      endAtOnce(pid);
      await ended;
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await ended;
    },
  };
}

function endAtOnce(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone by itself, as a server whose disk fails may be.
  }
}
