/** Three real nats-servers with routes between them, on 127.0.0.1; each can be killed, frozen and brought back with its store. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort, takesConnections } from "#actor/loopback-port.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { jetstreamManager } from "@nats-io/jetstream";
import { type Connection, connect } from "#bus/connection.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

/** Elections and a busy machine. */
const withinMs = 60_000;
const names = ["n1", "n2", "n3"] as const;
export type NodeName = (typeof names)[number];

interface ClusterNode {
  readonly name: NodeName;
  readonly port: number;
  readonly routePort: number;
  running?: { readonly pid: number; readonly ended: Promise<unknown>; readonly stop: AbortController };
}

export class NatsCluster implements AsyncDisposable {
  readonly #home: TemporaryFolder;
  readonly #binary: string;
  readonly #nodes: readonly ClusterNode[];
  readonly #connections: Connection[] = [];

  private constructor(home: TemporaryFolder, binary: string, nodes: readonly ClusterNode[]) {
    this.#home = home;
    this.#binary = binary;
    this.#nodes = nodes;
  }

  /** Resolves when the three have a leader between them. */
  static async start(): Promise<NatsCluster> {
    const [home, binary] = await Promise.all([temporaryFolder(), serverBinary()]);
    const nodes: ClusterNode[] = [];
    for (const name of names) nodes.push({ name, port: await freePort(), routePort: await freePort() });
    const cluster = new NatsCluster(home, binary, nodes);
    await Promise.all(names.map((name) => cluster.startNode(name)));
    await cluster.untilLed();
    return cluster;
  }

  /** All three, as FLASHYARD_NATS_URL takes them. */
  get url(): string {
    return names.map((name) => this.urlOf(name)).join(",");
  }

  get folder(): string {
    return this.#home.path;
  }

  urlOf(name: NodeName): string {
    return `nats://127.0.0.1:${this.#node(name).port}`;
  }

  /** A connection that is closed with the cluster. */
  async connect(name = "test", url = this.url): Promise<Connection> {
    const connection = await connect(url, name);
    this.#connections.push(connection);
    return connection;
  }

  async startNode(name: NodeName): Promise<void> {
    const node = this.#node(name);
    const folder = join(this.#home.path, name);
    await mkdir(folder, { recursive: true });
    const file = join(folder, "nats-server.conf");
    const routes = this.#nodes
      .filter((other) => other !== node)
      .map((other) => `"nats://127.0.0.1:${other.routePort}"`);
    const lines = [
      `listen: "127.0.0.1:${node.port}"`,
      `server_name: ${name}`,
      "max_payload: 8MB",
      `log_file: ${JSON.stringify(join(folder, "nats-server.log"))}`,
      `jetstream { store_dir: ${JSON.stringify(join(folder, "store"))}, sync_interval: always }`,
      `cluster { name: farm, listen: "127.0.0.1:${node.routePort}", routes: [${routes.join(", ")}] }`,
    ];
    await writeFile(file, lines.join("\n"), { mode: 0o600 });
    const stop = new AbortController();
    const started = Promise.withResolvers<number>();
    const ended = runProcess({
      argv: [this.#binary, "--config", file],
      env: plainEnvironment(),
      signal: stop.signal,
      onStart: started.resolve,
    });
    node.running = { pid: await started.promise, ended, stop };
    const limits = { everyMs: 20, withinMs };
    await poll(systemClock, limits, async () => ((await takesConnections(node.port)) ? true : undefined));
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(name: NodeName): Promise<void> {
    const { running } = this.#node(name);
    if (running === undefined) return;
    process.kill(running.pid, "SIGKILL");
    await running.ended;
    delete this.#node(name).running;
  }

  freeze(name: NodeName): void {
    process.kill(this.#node(name).running?.pid ?? 0, "SIGSTOP");
  }

  thaw(name: NodeName): void {
    process.kill(this.#node(name).running?.pid ?? 0, "SIGCONT");
  }

  /** The node that leads a stream. */
  async leaderOf(stream: string): Promise<NodeName> {
    const connection = await this.connect("leader");
    const found = await poll(systemClock, { everyMs: 200, withinMs }, async () => {
      const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 1_000 });
      const info = await manager.streams.info(stream).catch(() => undefined);
      return names.find((name) => name === info?.cluster?.leader);
    });
    await connection.close();
    if (found === undefined) throw new Error(`nobody leads ${stream}`);
    return found;
  }

  /** The node that assigns streams to nodes, as the servers' logs say it. */
  async metaLeader(): Promise<NodeName | undefined> {
    const said = await Promise.all(
      names.map(async (name) => {
        const log = await readFile(join(this.#home.path, name, "nats-server.log"), "utf8").catch(() => "");
        const line = log.split("\n").findLast((text) => text.includes("JetStream cluster new metadata leader"));
        return {
          at: line?.slice(0, 60).match(/\d{4}\/.{21}/)?.[0] ?? "",
          leader: line?.match(/leader: (\w+)\//)?.[1] ?? (line?.includes("Self") ? name : undefined),
        };
      }),
    );
    const newest = said.toSorted((a, b) => a.at.localeCompare(b.at)).at(-1);
    return names.find((name) => name === newest?.leader);
  }

  /** Until JetStream answers on every node that runs. */
  async untilLed(): Promise<void> {
    for (const { name, running } of this.#nodes) {
      if (running === undefined) continue;
      const connection = await this.connect("waiting", this.urlOf(name));
      const seen = await poll(systemClock, { everyMs: 100, withinMs }, async () => {
        const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 1_000 });
        return manager.getAccountInfo().then(
          () => true,
          () => undefined,
        );
      });
      await connection.close();
      if (seen === undefined) throw new Error(`JetStream does not answer on ${name}`);
    }
  }

  /**
   * Until every copy of every stream and consumer is up to date. A server that has restarted has lost what was in memory: before it has it
   * again, the loss of another one leaves such a stream without a majority.
   */
  async untilWhole(): Promise<void> {
    await this.untilLed();
    const connection = await this.connect("waiting");
    let behind: unknown;
    const whole = await poll(systemClock, { everyMs: 200, withinMs }, async () => {
      behind = await laggingIn(connection).catch((error: unknown) => error);
      return behind === undefined ? true : undefined;
    });
    await connection.close();
    if (whole === undefined) throw new Error(`the copies do not become equal: ${String(behind)}`);
  }

  #node(name: NodeName): ClusterNode {
    const node = this.#nodes.find((other) => other.name === name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
    for (const { name, running } of this.#nodes) if (running !== undefined) this.thaw(name);
    for (const { name } of this.#nodes) await this.kill(name);
    await this.#home[Symbol.asyncDispose]();
  }
}

/** The first stream or consumer of which not every copy is up to date; undefined where all are. */
async function laggingIn(connection: Connection): Promise<string | undefined> {
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 1_000 });
  for await (const { cluster, config } of manager.streams.list()) {
    const groups = [{ name: config.name, cluster }];
    for await (const consumer of manager.consumers.list(config.name)) {
      const { durable_name: name } = consumer.config;
      if (name !== undefined) groups.push({ name: `${config.name} > ${name}`, cluster: consumer.cluster });
    }
    const behind = groups.find(({ cluster: group }) => {
      const others = group?.replicas ?? [];
      return (
        group?.leader === undefined ||
        others.length !== config.num_replicas - 1 ||
        !others.every(({ current }) => current)
      );
    });
    if (behind !== undefined) return `${behind.name}: ${JSON.stringify(behind.cluster)}`;
  }
  return undefined;
}
