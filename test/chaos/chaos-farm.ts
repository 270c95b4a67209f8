/**
 * A farm that can be mistreated: nats-server, coordinators, two compile agents, two upload agents, each a process of its own
 * behind a proxy that can take nats-server away from it, and devices behind recording proxies. All in one folder.
 */
import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { resolveServerBinary } from "#bus/server-binary.ts";
import { CutProxy } from "#test/chaos/cut-proxy.ts";
import { type Fault, linkOf, type Victims } from "#test/chaos/fault-plan.ts";
import { KeptProcess, type RunProcess } from "#test/chaos/kept-process.ts";
import { RealDevice, testCacheFolder } from "#test/support/real-device.ts";

const root = join(import.meta.dirname, "../..");
const serverName = "nats-server";
/** Whoever asks for installs and uploads; has a link like everybody else. */
const userName = "user";
const agents = [
  { name: "build-1", lane: "compile", slots: 1 },
  { name: "build-2", lane: "compile", slots: 1 },
  { name: "flash-1", lane: "upload", slots: 2 },
  { name: "flash-2", lane: "upload", slots: 2 },
] as const;

const readyMsMax = 60_000;
/** Nothing is worth waiting for any more when the farm is taken down. */
const endMsMax = 3_000;

export interface ChaosFarmOptions {
  readonly folder: string;
  readonly coordinators: number;
  readonly devices: number;
}

export class ChaosFarm implements AsyncDisposable {
  readonly devices: readonly RealDevice[];
  /** Of nats-server itself, past every proxy. */
  readonly serverUrl: string;
  readonly #processes: ReadonlyMap<string, KeptProcess>;
  readonly #links: ReadonlyMap<string, CutProxy>;
  readonly #running: AsyncDisposableStack;

  private constructor(
    parts: Pick<ChaosFarm, "devices" | "serverUrl">,
    processes: ReadonlyMap<string, KeptProcess>,
    links: ReadonlyMap<string, CutProxy>,
    running: AsyncDisposableStack,
  ) {
    ({ devices: this.devices, serverUrl: this.serverUrl } = parts);
    this.#processes = processes;
    this.#links = links;
    this.#running = running;
  }

  /** @returns when every device answers and every agent has announced itself */
  static async start({ folder, coordinators, devices: deviceCount }: ChaosFarmOptions): Promise<ChaosFarm> {
    await mkdir(join(folder, "logs"), { recursive: true });
    await using started = new AsyncDisposableStack();
    const devices: RealDevice[] = [];
    for (let number = 1; number <= deviceCount; number++) {
      devices.push(started.use(await RealDevice.start(`lamp-${number}`, join(folder, "devices"))));
    }
    const ledger = new GroupLedger(join(folder, "processes"), { isGuarding: true });
    const port = await freePort();
    const processes = new Map<string, KeptProcess>();
    const links = new Map<string, CutProxy>();
    const keep = async (name: string, run: RunProcess) => {
      const kept = started.use(new KeptProcess(name, run));
      processes.set(name, kept);
      await kept.started();
    };
    const link = async (name: string) => {
      const proxy = started.use(await CutProxy.start(port));
      links.set(linkOf(name), proxy);
      return proxy;
    };
    await keep(serverName, await serverRun(folder, port, ledger));
    await link(userName);
    for (let number = 1; number <= coordinators; number++) {
      const name = `coordinator-${number}`;
      await keep(
        name,
        memberRun(folder, ledger, name, "coordinator/main.ts", { FLASHYARD_NATS_URL: (await link(name)).url }),
      );
    }
    for (const { name, lane, slots } of agents) {
      const own = {
        FLASHYARD_NATS_URL: (await link(name)).url,
        FLASHYARD_AGENT: name,
        FLASHYARD_SLOTS: String(slots),
        FLASHYARD_HOME: join(folder, "agents", name),
      };
      await keep(name, memberRun(folder, ledger, name, `${lane}-agent/main.ts`, own));
    }
    const serverUrl = `nats://127.0.0.1:${port}`;
    await untilReady(serverUrl);
    return new ChaosFarm({ devices, serverUrl }, processes, links, started.move());
  }

  get userUrl(): string {
    return this.#links.get(linkOf(userName))?.url ?? this.serverUrl;
  }

  get victims(): Victims {
    return {
      processes: [...this.#processes.keys()],
      links: [...this.#links.keys()],
      devices: this.devices.map(({ name }) => name),
    };
  }

  /** Ends of processes that no fault has asked for. */
  ownEnds(): readonly string[] {
    return [...this.#processes.values()].flatMap(({ name, ownEnds }) => ownEnds.map((end) => `${name}: ${end}`));
  }

  /**
   * Does it, and undoes it after its time or when the signal fires.
   * @returns false when its victim was away already
   */
  async suffer({ kind, victim, ms, atBytes }: Fault, signal: AbortSignal): Promise<boolean> {
    let isHit = true;
    const process = this.#processes.get(victim);
    const link = this.#links.get(victim);
    const device = this.devices.find(({ name }) => name === victim);
    switch (kind) {
      case "kill":
        isHit = process?.kill(ms) === true;
        break;
      case "pause":
        isHit = process?.pause() === true;
        break;
      case "freeze-link":
        link?.freeze();
        break;
      case "cut-link":
        link?.cut();
        break;
      case "cut-early":
        device?.plan({ cutAfterDataBytes: 0 });
        break;
      case "cut-midway":
        device?.plan({ cutAfterDataBytes: atBytes });
        break;
      case "cut-late":
        device?.plan({ cutAfterLastByte: true });
        break;
    }
    await systemClock.pause(ms, signal);
    if (kind === "pause") process?.resume();
    link?.restore();
    device?.plan({});
    return isHit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running.disposeAsync();
  }
}

/** A server that was killed starts on the same store. */
async function serverRun(folder: string, port: number, ledger: GroupLedger): Promise<RunProcess> {
  const { path: binary } = await resolveServerBinary({ cacheFolder: join(homedir(), ".cache", "flashyard") });
  return async (signal, onStart) => {
    const server = await startEmbeddedServer({ binary, folder: join(folder, "nats"), port, ledger, onStart });
    const end = () => void server.stop();
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    return server.ended;
  };
}

function memberRun(
  folder: string,
  ledger: GroupLedger,
  name: string,
  entry: string,
  own: Readonly<Record<string, string>>,
): RunProcess {
  const env = {
    ...plainEnvironment(),
    FLASHYARD_LOG: "info",
    FLASHYARD_SUPERVISED: "1",
    FLASHYARD_CACHE: testCacheFolder,
    NODE_COMPILE_CACHE: join(testCacheFolder, "node"),
    ...own,
  };
  return async (signal, onStart) => {
    const log = createWriteStream(join(folder, "logs", `${name}.log`), { flags: "a" });
    try {
      return await runProcess({
        argv: [process.execPath, join(root, entry)],
        env,
        signal,
        graceMs: endMsMax,
        ledger,
        onStart,
        onBytes: (chunk) => log.write(chunk),
      });
    } finally {
      log.end();
    }
  };
}

async function untilReady(url: string): Promise<void> {
  const attempt = async (): Promise<true | undefined> => {
    const connection: Connection | undefined = await connect(url, "chaos").catch(() => undefined);
    if (connection === undefined) return undefined;
    try {
      const answer = await askAdmin(connection, { v: 1, kind: "agents" }).catch(() => undefined);
      if (answer?.kind !== "agents") return undefined;
      const online = new Set<string>();
      for (const { online: isOnline, announcement } of answer.agents) if (isOnline) online.add(announcement.agent);
      return agents.every(({ name }) => online.has(name)) ? true : undefined;
    } finally {
      await connection.close();
    }
  };
  if ((await poll(systemClock, { everyMs: 200, withinMs: readyMsMax }, attempt)) !== true) {
    throw new Error(`the farm is not ready after ${readyMsMax / 1000} s`);
  }
}
