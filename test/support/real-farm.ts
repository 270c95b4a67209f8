/**
 * A farm as a user has it, in a temporary home: real nats-server, coordinator, agents, ESPHome, devices and command lines, each
 * a process of its own. ESPHome's environment and nats-server come from caches that runs share.
 *
 * After its end nothing of it runs: `asyncDispose` throws for what is left.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { plainEnvironment } from "#actor/subprocess.ts";
import { resolveServerBinary } from "#bus/server-binary.ts";
import type { Connection } from "#bus/connection.ts";
import { signIn } from "#bus/identity/sign-in.ts";
import type { LocalAgent } from "#cli/local-agents.ts";
import { type LocalFarm, startLocalFarm } from "#cli/local-farm.ts";
import { runningWith } from "#test/support/process-table.ts";
import { type Edition, RealDevice, testCacheFolder } from "#test/support/real-device.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
/** A cold build of two at once takes half a minute on a machine with two processors; others may use it as well. */
const waitMsMax = 200_000;

/** A line of `--json`, as far as the tests look at it. */
export interface CliEvent {
  readonly kind: string;
  readonly chain?: string;
  readonly configuration?: string;
  readonly job?: string;
  readonly state?: string;
  readonly phase?: string;
  readonly agent?: string;
  readonly attempt?: number;
  readonly reason?: string;
  readonly exitCode?: number;
  readonly message?: string;
  readonly tail?: readonly string[];
  readonly outcome?: Outcome;
  readonly startedAt?: number;
  readonly endedAt?: number;
}

export interface Outcome {
  readonly kind: string;
  readonly wrote?: boolean;
  readonly level?: string;
  readonly cause?: string;
  readonly failure?: { readonly kind: string; readonly effect?: string; readonly tail?: readonly string[] };
  readonly manifest?: { readonly images: readonly { readonly digest: string }[] };
  readonly report?: { readonly compilationTime: string };
}

export interface CliEnd {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A command line that runs. */
export class Cli {
  readonly child: ChildProcess;
  readonly #ended: Promise<unknown>;
  out = "";
  err = "";

  constructor(args: readonly string[], cwd: string, env: Readonly<Record<string, string>>) {
    this.child = spawn(process.execPath, [join(root, "cli/main.ts"), ...args], {
      cwd,
      env: { ...plainEnvironment(), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.on("data", (chunk: Buffer) => (this.out += chunk.toString()));
    this.child.stderr?.on("data", (chunk: Buffer) => (this.err += chunk.toString()));
    this.#ended = once(this.child, "close");
  }

  /** Every line that it has printed; throws when one is no JSON object. */
  events(): readonly CliEvent[] {
    const lines = this.out
      .slice(0, this.out.lastIndexOf("\n") + 1)
      .split("\n")
      .filter((line) => line !== "");
    return lines.map((line) => {
      const event = JSON.parse(line) as CliEvent;
      if (typeof event.kind !== "string") throw new Error(`a line without a kind: ${line}`);
      return event;
    });
  }

  /** The first event that fits, of those that were and those to come. */
  async event(wanted: Partial<CliEvent>): Promise<CliEvent> {
    const isWanted = (event: CliEvent) =>
      Object.entries(wanted).every(([name, value]) => event[name as keyof CliEvent] === value);
    const found = await poll(systemClock, { everyMs: 5, withinMs: waitMsMax }, () => {
      const event = this.events().find(isWanted);
      return event ?? (this.child.exitCode === null ? undefined : "over");
    });
    if (typeof found === "object") return found;
    throw new Error(`no ${JSON.stringify(wanted)} in:\n${this.out}\n${this.err}`);
  }

  async prints(pattern: RegExp): Promise<void> {
    const limits = { everyMs: 5, withinMs: waitMsMax };
    const seen = await poll(systemClock, limits, () =>
      pattern.test(this.out) ? true : this.child.exitCode === null ? undefined : false,
    );
    if (seen !== true) throw new Error(`no ${String(pattern)} in:\n${this.out}\n${this.err}`);
  }

  async end(): Promise<CliEnd> {
    await this.#ended;
    return { code: this.child.exitCode, out: this.out, err: this.err };
  }

  /** The last event of a job. */
  last(job: "compile" | "upload" | "confirm"): CliEvent {
    const found = this.events().findLast((event) => event.kind === "job" && event.job === job);
    if (found === undefined) throw new Error(`nothing of ${job} in:\n${this.out}\n${this.err}`);
    return found;
  }
}

export interface FarmOptions {
  /** Number of compile agents. */
  readonly compile?: number;
  /** More variables of its processes. */
  readonly variables?: Readonly<Record<string, string>>;
}

export class RealFarm implements AsyncDisposable {
  readonly port: number;
  readonly serverBinary: string;
  readonly #folder: TemporaryFolder;
  readonly #devices: RealDevice[] = [];
  readonly #clis: Cli[] = [];
  readonly #pids = new Map<string, number>();
  #running: LocalFarm | undefined;

  private constructor(port: number, serverBinary: string, folder: TemporaryFolder) {
    this.port = port;
    this.serverBinary = serverBinary;
    this.#folder = folder;
  }

  /** A home without a farm yet. */
  static async open(): Promise<RealFarm> {
    const cacheFolder = process.env["FLASHYARD_CACHE"] ?? join(homedir(), ".cache", "flashyard");
    const { path } = await resolveServerBinary({ cacheFolder });
    const farm = new RealFarm(await freePort(), path, await temporaryFolder());
    await mkdir(farm.configurations);
    return farm;
  }

  static async start(options: FarmOptions = {}): Promise<RealFarm> {
    const farm = await RealFarm.open();
    try {
      await farm.startMembers(options);
      return farm;
    } catch (error) {
      await farm[Symbol.asyncDispose]();
      throw error;
    }
  }

  get folder(): string {
    return this.#folder.path;
  }

  get home(): string {
    return join(this.folder, "home");
  }

  /** Where the user's files are and the command lines run. */
  get configurations(): string {
    return join(this.folder, "configurations");
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** What people sign in with. */
  get credentials(): string {
    return join(this.home, "identity", "admin.json");
  }

  /** A connection with the rights of a coordinator, which are all, for the test to close. */
  async connect(): Promise<Connection> {
    const path = join(this.home, "identity", "coordinator.json");
    return (await signIn({ path, servers: this.url, name: "flashyard test" })).connection;
  }

  /** `build-1`, `build-2`, … and `flash-1`. */
  async startMembers({ compile = 1, variables = {} }: FarmOptions): Promise<void> {
    const builders = Array.from({ length: compile }, (_, index): LocalAgent => {
      return { name: `build-${index + 1}`, lane: "compile", slots: 1 };
    });
    this.#running = await startLocalFarm({
      home: this.home,
      cacheFolder: testCacheFolder,
      port: this.port,
      serverBinary: this.serverBinary,
      agents: [...builders, { name: "flash-1", lane: "upload", slots: 2 }],
      logLevel: "info",
      // Nothing of a test is said in a network.
      variables: { FLASHYARD_MDNS: "off", ...variables },
      signal: new AbortController().signal,
      say: () => undefined,
      onStart: (member, pid) => this.#pids.set(member, pid),
    });
  }

  pidOf(member: string): number {
    const pid = this.#pids.get(member);
    if (pid === undefined) throw new Error(`${member} was never started`);
    return pid;
  }

  /** SIGKILL. @returns the process id that it had */
  kill(member: string): number {
    const pid = this.pidOf(member);
    process.kill(pid, "SIGKILL");
    return pid;
  }

  /** Until the supervisor has started the successor of a killed member. */
  async restarted(member: string, before: number): Promise<void> {
    const limits = { everyMs: 10, withinMs: 20_000 };
    const seen = await poll(systemClock, limits, () => (this.pidOf(member) === before ? undefined : true));
    if (seen === undefined) throw new Error(`${member} was not started again`);
  }

  /** Leaders of the process groups that an agent has noted as running. */
  async groupsOf(agent: string): Promise<readonly number[]> {
    const notes = await readdir(join(this.home, "agents", agent, "processes")).catch(() => []);
    return notes.map(Number);
  }

  async device(name: string): Promise<RealDevice> {
    const device = await RealDevice.start(name, join(this.folder, "devices"));
    this.#devices.push(device);
    return device;
  }

  /** Writes a device's configuration. @returns the file's name in `configurations` */
  async write(device: RealDevice, edition: Edition): Promise<string> {
    return this.writeText(`${device.name}.yaml`, device.yaml(edition));
  }

  async writeText(file: string, text: string): Promise<string> {
    await writeFile(join(this.configurations, file), text);
    return file;
  }

  /** Starts a command line. */
  cli(args: readonly string[], more: Readonly<Record<string, string>> = {}): Cli {
    return this.#spawn(args, { FLASHYARD_NATS_URL: this.url, FLASHYARD_CREDENTIALS: this.credentials, ...more });
  }

  /** `flashyard up` with this farm's home and port. */
  up(args: readonly string[] = [], more: Readonly<Record<string, string>> = {}): Cli {
    const place = ["--home", this.home, "--port", String(this.port)];
    return this.#spawn(["up", ...place, ...args], { FLASHYARD_NATS_SERVER: this.serverBinary, ...more });
  }

  /** Runs one to its end. */
  async run(...args: readonly string[]): Promise<CliEnd> {
    return this.cli(args).end();
  }

  /** `flashyard install` of a device's configuration at its proxy, with `--json`. */
  async install(device: RealDevice, edition: Edition): Promise<Cli> {
    return this.cli(["install", await this.write(device, edition), "--device", device.address, "--json"]);
  }

  #spawn(args: readonly string[], env: Readonly<Record<string, string>>): Cli {
    const caches = { FLASHYARD_CACHE: testCacheFolder, NODE_COMPILE_CACHE: join(testCacheFolder, "node") };
    const cli = new Cli(args, this.configurations, { ...caches, ...env });
    this.#clis.push(cli);
    return cli;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#clis) if (child.exitCode === null) child.kill("SIGKILL");
    await Promise.all(this.#clis.map((cli) => cli.end()));
    for (const device of this.#devices) device.throttle(undefined);
    await this.#running?.[Symbol.asyncDispose]();
    for (const device of this.#devices) await device[Symbol.asyncDispose]();
    const left = runningWith([this.folder, this.url]);
    await this.#folder[Symbol.asyncDispose]();
    if (left.length > 0) throw new Error(`left running:\n${left.join("\n")}`);
  }
}
