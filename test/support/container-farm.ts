/**
 * A farm of containers from the images of deploy/, with the configurations of deploy/: NATS servers, coordinators and agents, each in its
 * own, that talk by TLS over a network of theirs. The upload agent is in a second one, in which the devices are. Command lines run here.
 */
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GenericContainer, getContainerRuntimeClient, Network, type StartedNetwork, Wait } from "testcontainers";
import type { StartedTestContainer } from "testcontainers";
import { jetstreamManager } from "@nats-io/jetstream";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import type { Connection } from "#bus/connection.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { CoordinatorLease } from "#bus/coordinator-lease.ts";
import { signIn } from "#bus/identity/sign-in.ts";
import { BootId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { give, toolchainMounts } from "#test/support/container-mounts.ts";
import { containerEngine } from "#test/support/container-engine.ts";
import { type FarmImage, farmImages, imageOf } from "#test/support/farm-images.ts";
import { type Edition, RealDevice, testCacheFolder } from "#test/support/real-device.ts";
import { Cli } from "#test/support/real-farm.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
/** Elections and a busy machine. */
const readyMsMax = 90_000;
const linesKept = 40;
/** Of nobody: a lease is only read here. */
const bootId = BootId.parse("0000000000000000");

interface Part {
  readonly container: StartedTestContainer;
  readonly network: StartedNetwork;
}

export class ContainerFarm implements AsyncDisposable {
  readonly #folder: TemporaryFolder;
  readonly #owned: AsyncDisposableStack;
  readonly #farm: StartedNetwork;
  readonly #devices: StartedNetwork;
  readonly #ports: readonly number[];
  readonly #parts = new Map<string, Part>();
  readonly #clis: Cli[] = [];
  readonly #said = new Map<string, readonly string[]>();

  private constructor(
    folder: TemporaryFolder,
    owned: AsyncDisposableStack,
    networks: readonly [StartedNetwork, StartedNetwork],
    ports: readonly number[],
  ) {
    this.#folder = folder;
    this.#owned = owned;
    [this.#farm, this.#devices] = networks;
    this.#ports = ports;
  }

  /** With one NATS server or three, which answer. */
  static async start(servers: 1 | 3): Promise<ContainerFarm> {
    await using owned = new AsyncDisposableStack();
    const folder = owned.use(await temporaryFolder());
    owned.use(await containerEngine());
    await farmImages();
    const networks = [owned.use(await new Network().start()), owned.use(await new Network().start())] as const;
    const ports: number[] = [];
    while (ports.length < servers) ports.push(await freePort());
    const farm = new ContainerFarm(folder, owned.move(), networks, ports);
    try {
      await mkdir(farm.configurations);
      await farm.#makeIdentity();
      await Promise.all(ports.keys().map((index) => farm.#startServer(index)));
    } catch (error) {
      await farm[Symbol.asyncDispose]();
      throw error;
    }
    return farm;
  }

  get configurations(): string {
    return join(this.#folder.path, "configurations");
  }

  /** Of this farm alone: an engine may have several. */
  #machine(name: string): string {
    return `${name}.${this.#farm.getId().slice(0, 8)}.lan`;
  }

  get #identity(): string {
    return join(this.#folder.path, "identity");
  }

  /** As this machine reaches the servers. */
  get servers(): string {
    return this.#ports.map((port) => `tls://127.0.0.1:${port}`).join(",");
  }

  async #makeIdentity(): Promise<void> {
    const hosts = this.#ports.flatMap((_, index) => ["--host", `${this.#machine(`n${index + 1}`)},127.0.0.1`]);
    const { code, out, err } = await this.cli(["identity", "init", "--folder", this.#identity, ...hosts]).end();
    if (code !== 0) throw new Error(`no identity: ${out}${err}`);
  }

  /** `n1`, `n2`, … with the configuration of deploy/. */
  async #startServer(index: number): Promise<void> {
    const name = `n${index + 1}`;
    const settings = join(this.#folder.path, name);
    await cp(join(this.#identity, "nats", this.#machine(name)), join(settings, "nats"), { recursive: true });
    const file = this.#ports.length === 1 ? "nats-server.conf" : `three-nodes/nats-${index + 1}.conf`;
    const text = await readFile(join(root, "deploy", file), "utf8");
    const written = text.replaceAll(/"tls:\/\/(n\d)\.lan:/g, (_, other: string) => `"tls://${this.#machine(other)}:`);
    await writeFile(join(settings, "nats-server.conf"), written);
    await give(settings);
    await this.#run(name, "nats", {
      mounts: { [settings]: "/etc/flashyard" },
      port: this.#ports[index],
      says: /Server is ready/,
    });
  }

  /** Resolves when it leads or stands by. */
  async startCoordinator(name: string): Promise<void> {
    const settings = join(this.#folder.path, name);
    await mkdir(settings);
    for (const file of ["keys.json", "coordinator.json"]) await cp(join(this.#identity, file), join(settings, file));
    await give(settings);
    await this.#run(name, "coordinator", {
      mounts: { [settings]: "/etc/flashyard/identity" },
      variables: { FLASHYARD_IDENTITY: "/etc/flashyard/identity" },
      says: /"msg":"(connected|standing by)/,
    });
  }

  /** Pairs a machine with the farm, in its own container, and starts its agent there. Resolves when the farm lists it. */
  async startAgent(name: string, lane: Lane): Promise<void> {
    const [home, cache] = ["home", "cache"].map((part) => join(this.#folder.path, `${name}-${part}`)) as [
      string,
      string,
    ];
    for (const folder of [home, cache]) await mkdir(folder);
    const toolchain = lane === "compile" ? await toolchainMounts(cache) : { [cache]: testCacheFolder };
    for (const folder of [home, cache]) await give(folder);
    const mounts = { [home]: "/var/lib/flashyard", ...toolchain };
    const caches = { FLASHYARD_CACHE: testCacheFolder, NODE_COMPILE_CACHE: join(testCacheFolder, "node") };
    await this.#pair(name, lane, mounts, caches);
    await this.#run(name, `${lane}-agent`, {
      mounts,
      variables: { FLASHYARD_AGENT: name, FLASHYARD_SLOTS: "1", FLASHYARD_MDNS: "off", ...caches },
      says: /"msg":/,
    });
    if (lane === "upload") await this.#connect(name, this.#devices);
    await this.untilOnline(name);
  }

  /** As docs/pairing.md has it: a line, which the machine joins with, and a person who sees the same words on both sides. */
  async #pair(
    name: string,
    lane: Lane,
    mounts: Readonly<Record<string, string>>,
    variables: Readonly<Record<string, string>>,
  ): Promise<void> {
    const address = this.#ports.map((_, index) => `tls://${this.#machine(`n${index + 1}`)}:4222`).join(",");
    const { out } = await this.cli(["agent", "pair", `--${lane}`, "--address", address]).end();
    const line = /fyj1\.\S+/.exec(out)?.[0] ?? "";
    const joining = `${name}-joining`;
    const joined = this.#run(joining, `${lane}-agent`, {
      mounts,
      variables,
      command: ["flashyard", "agent", "join", line, `--${lane}`, "--name", name],
      says: /has joined/,
    });
    const words = await Promise.race([
      poll(systemClock, { everyMs: 100, withinMs: readyMsMax }, () => /machine is: (.*)/.exec(this.said(joining))?.[1]),
      joined.then(() => undefined),
    ]);
    if (words === undefined) throw new Error(`${name} says no words:\n${this.said(joining)}`);
    const approved = await this.cli(["agent", "approve", ...words.trim().split(" ")]).end();
    if (approved.code !== 0) throw new Error(`${name} is not approved: ${approved.err}${approved.out}`);
    await joined;
  }

  async untilOnline(agent: string, isOnline = true): Promise<void> {
    const seen = await this.#as("admin", (connection) =>
      poll(systemClock, { everyMs: 100, withinMs: readyMsMax }, async () => {
        const answer = await askAdmin(connection, { v: 1, kind: "agents" }).catch(() => undefined);
        if (answer?.kind !== "agents") return undefined;
        const found = answer.agents.find(({ announcement }) => announcement.agent === agent);
        return (found?.online ?? false) === isOnline ? true : undefined;
      }),
    );
    if (seen !== true) throw new Error(`${agent} is not ${isOnline ? "online" : "away"}:\n${this.said(agent)}`);
  }

  async #run(
    name: string,
    image: FarmImage,
    {
      mounts,
      variables = {},
      command,
      port,
      says,
    }: {
      readonly mounts: Readonly<Record<string, string>>;
      readonly variables?: Readonly<Record<string, string>>;
      /** Instead of the image's own. */
      readonly command?: readonly string[];
      readonly port?: number | undefined;
      readonly says: RegExp;
    },
  ): Promise<void> {
    const bound = Object.entries(mounts).map(([source, target]) => ({ source, target }));
    const container = new GenericContainer(imageOf(image))
      // By its name the others find it. An alias would put it into the engine's own network as well, and no cut would be one.
      .withName(this.#machine(name))
      .withHostname(name)
      .withNetwork(this.#farm)
      .withEnvironment(variables)
      .withBindMounts(bound)
      .withLogConsumer((lines) => lines.on("data", (line: string | Buffer) => this.#hear(name, String(line))))
      .withWaitStrategy(Wait.forLogMessage(says))
      .withStartupTimeout(readyMsMax);
    if (command !== undefined) container.withEntrypoint(["tini", "--", ...command]);
    if (port !== undefined) container.withExposedPorts({ container: 4222, host: port });
    const started = await container.start().catch((cause: unknown) => {
      throw new Error(`${name} does not start:\n${this.said(name)}`, { cause });
    });
    this.#owned.use(started);
    this.#parts.set(name, { container: started, network: this.#farm });
  }

  async #connect(name: string, network: StartedNetwork): Promise<void> {
    const { container, network: networks } = await getContainerRuntimeClient();
    const id = this.#part(name).container.getId();
    await container.connectToNetwork(container.getById(id), networks.getById(network.getId()), []);
  }

  /** Nothing of the farm reaches it any more, and nothing of it the farm; the upload agent still reaches the devices. */
  async cutOff(name: string): Promise<void> {
    const { network } = await getContainerRuntimeClient();
    await network
      .getById(this.#farm.getId())
      .disconnect({ Container: this.#part(name).container.getId(), Force: true });
  }

  reconnect(name: string): Promise<void> {
    return this.#connect(name, this.#farm);
  }

  /** SIGKILL to all of its processes. */
  async kill(name: string): Promise<void> {
    const { container } = await getContainerRuntimeClient();
    const dead = container.getById(this.#part(name).container.getId());
    await dead.kill({ signal: "SIGKILL" });
    await dead.wait();
  }

  /** SIGTERM to the first process. @returns its exit code; 137 after half a minute without an end */
  async stop(name: string): Promise<number> {
    const { container } = await getContainerRuntimeClient();
    const stopped = container.getById(this.#part(name).container.getId());
    await stopped.stop({ t: 30 });
    return ((await stopped.inspect()) as { readonly State: { readonly ExitCode: number } }).State.ExitCode;
  }

  /** Its exit code, when it has ended by itself. */
  async ended(name: string): Promise<number> {
    const { container } = await getContainerRuntimeClient();
    const abortSignal = AbortSignal.timeout(readyMsMax);
    const { StatusCode } = (await container.getById(this.#part(name).container.getId()).wait({ abortSignal })) as {
      readonly StatusCode: number;
    };
    return StatusCode;
  }

  async startAgain(name: string): Promise<void> {
    const { container } = await getContainerRuntimeClient();
    await container.getById(this.#part(name).container.getId()).start();
  }

  #hear(name: string, line: string): void {
    this.#said.set(name, [...(this.#said.get(name) ?? []), line.trimEnd()].slice(-linesKept));
  }

  /** The last lines of its log. */
  said(name: string): string {
    return (this.#said.get(name) ?? []).join("\n");
  }

  #part(name: string): Part {
    const part = this.#parts.get(name);
    if (part === undefined) throw new Error(`there is no ${name}`);
    return part;
  }

  async #as<T>(
    who: "admin" | "coordinator",
    work: (connection: Connection) => Promise<T>,
    servers = this.servers,
  ): Promise<T> {
    const path = join(this.#identity, `${who}.json`);
    const { connection } = await signIn({ path, servers, name: "flashyard test" });
    try {
      return await work(connection);
    } finally {
      await connection.close();
    }
  }

  /** The coordinator that leads, by the lease. */
  async leader(): Promise<string> {
    const limits = { everyMs: 100, withinMs: readyMsMax };
    const found = await this.#as("coordinator", (connection) => {
      const lease = new CoordinatorLease(connection, systemClock, { holder: bootId, host: "test", pid: 1 });
      return poll(systemClock, limits, () => lease.holder().catch(() => undefined));
    });
    if (found === undefined) throw new Error("no coordinator leads");
    return found.host;
  }

  /** The NATS server that leads a stream. */
  async leaderOf(stream: string): Promise<string> {
    const { cluster } = await this.#as("coordinator", async (connection) => {
      const manager = await jetstreamManager(connection, { checkAPI: false });
      return manager.streams.info(stream);
    });
    const number = /^flashyard-(\d)$/.exec(cluster?.leader ?? "")?.[1];
    if (number === undefined) throw new Error(`nobody leads ${stream}: ${JSON.stringify(cluster)}`);
    return `n${number}`;
  }

  /** Until a server that has come back is one of the three again: JetStream answers there. */
  async untilServes(name: string): Promise<void> {
    const server = `tls://127.0.0.1:${this.#ports[Number(name.slice(1)) - 1]}`;
    const seen = await poll(systemClock, { everyMs: 200, withinMs: readyMsMax }, () =>
      this.#as(
        "coordinator",
        async (connection) => {
          const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 1_000 });
          return manager.getAccountInfo();
        },
        server,
      ).catch(() => undefined),
    );
    if (seen === undefined) throw new Error(`JetStream does not answer on ${name}`);
  }

  /** A device on this machine, at the address by which the second network reaches it. */
  async device(name: string): Promise<RealDevice> {
    const { network } = await getContainerRuntimeClient();
    const { IPAM } = (await network.getById(this.#devices.getId()).inspect()) as {
      readonly IPAM?: { readonly Config?: readonly { readonly Gateway?: string }[] };
    };
    const gateway = IPAM?.Config?.[0]?.Gateway?.replace(/\/.*/, "");
    if (gateway === undefined) throw new Error("the network has no gateway");
    return this.#owned.use(await RealDevice.start(name, join(this.#folder.path, "devices"), gateway));
  }

  cli(args: readonly string[]): Cli {
    const cli = new Cli(args, this.configurations, {
      FLASHYARD_NATS_URL: this.servers,
      FLASHYARD_CREDENTIALS: join(this.#identity, "admin.json"),
      FLASHYARD_CACHE: testCacheFolder,
      NODE_COMPILE_CACHE: join(testCacheFolder, "node"),
    });
    this.#clis.push(cli);
    return cli;
  }

  /** `flashyard install` of a device's configuration, with `--json`. */
  async install(device: RealDevice, edition: Edition): Promise<Cli> {
    const file = `${device.name}.yaml`;
    await writeFile(join(this.configurations, file), device.yaml(edition));
    return this.cli(["install", file, "--device", device.address, "--json"]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#clis) if (child.exitCode === null) child.kill("SIGKILL");
    await Promise.all(this.#clis.map((cli) => cli.end()));
    await this.#owned.disposeAsync();
  }
}
