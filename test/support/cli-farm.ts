/**
 * A farm for the command line: a real nats-server, the real coordinator as a process, and agents of this process, made of the
 * real lane worker, whose work is `cli-farm-work.ts`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { LaneWorker } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { memorySpool } from "#actor/result-spool.ts";
import { plainEnvironment } from "#actor/subprocess.ts";
import type { Chain } from "#protocol/chain.ts";
import { AgentId, BootId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { SerialPortView } from "#protocol/serial.ts";
import { farmVersion } from "#protocol/version.ts";
import type { Connection } from "#bus/connection.ts";
import { askCoordinator } from "#bus/agent-client.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { laneSource } from "#bus/lanes.ts";
import { announce } from "#bus/presence.ts";
import { compiledOnce } from "#test/support/compiled-once.ts";
import { FarmWork } from "#test/support/cli-farm-work.ts";
import { type TestServer, testServer } from "#test/support/nats-server.ts";
import { type QuietEnd, runQuietly } from "#test/support/quiet-cli.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
const waitMsMax = 10_000;

/** A command line that runs. */
export class RunningCli {
  readonly child: ChildProcess;
  readonly #ended: Promise<unknown>;
  out = "";
  err = "";

  constructor(args: readonly string[], env: Readonly<Record<string, string>>) {
    this.child = spawn(process.execPath, [join(root, "cli/main.ts"), ...args], {
      env: { ...env, ...compiledOnce },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.on("data", (chunk: Buffer) => (this.out += chunk.toString()));
    this.child.stderr?.on("data", (chunk: Buffer) => (this.err += chunk.toString()));
    this.#ended = once(this.child, "close");
  }

  /** Resolves when the standard output holds this. */
  async prints(pattern: RegExp): Promise<void> {
    await this.#until(pattern, () => this.out);
  }

  /** Resolves when the standard error holds this. */
  async says(pattern: RegExp): Promise<void> {
    await this.#until(pattern, () => this.err);
  }

  async #until(pattern: RegExp, text: () => string): Promise<void> {
    const limits = { everyMs: 5, withinMs: waitMsMax };
    const seen = await poll(systemClock, limits, () => (pattern.test(text()) ? true : undefined));
    if (seen === undefined) throw new Error(`no ${String(pattern)} in:\n${this.out}\n${this.err}`);
  }

  async code(): Promise<number | null> {
    await this.#ended;
    return this.child.exitCode;
  }

  /** The standard output as one JSON object a line. */
  json(): readonly Record<string, unknown>[] {
    return jsonLines(this.out);
  }
}

/** What `--json` has printed, an object a line. */
export function jsonLines(out: string): readonly Record<string, unknown>[] {
  const lines = out.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Runs to the end without a farm, or with one at `url`. */
export async function runCli(
  args: readonly string[],
  extra: Readonly<Record<string, string>> = {},
): Promise<RunningCli> {
  const cli = new RunningCli(args, { ...plainEnvironment(), ...extra });
  await cli.code();
  return cli;
}

export class CliFarm implements AsyncDisposable {
  readonly server: TestServer;
  readonly home: TemporaryFolder;
  readonly connection: Connection;
  readonly work: FarmWork;
  readonly #workers: LaneWorker[] = [];
  readonly #clis: RunningCli[] = [];
  #coordinator: ChildProcess;
  #builder: LaneWorker | undefined;
  #flasher: LaneWorker | undefined;

  constructor(server: TestServer, home: TemporaryFolder, connection: Connection) {
    this.server = server;
    this.home = home;
    this.connection = connection;
    this.work = new FarmWork(connection);
    this.#coordinator = this.#startCoordinator();
  }

  static async start(): Promise<CliFarm> {
    const [server, home] = await Promise.all([testServer(), temporaryFolder()]);
    const farm = new CliFarm(server, home, await server.connect());
    await farm.#answers();
    await farm.#startAgent("build-1", "compile", 4);
    await farm.#startAgent("flash-1", "upload", 1);
    await farm.#sees(2);
    return farm;
  }

  get environment(): Readonly<Record<string, string>> {
    return { FLASHYARD_NATS_URL: this.server.url, FLASHYARD_CACHE: join(this.home.path, "cache") };
  }

  run(...args: readonly string[]): Promise<RunningCli> {
    return runCli(args, this.environment);
  }

  /** Makes ESPHome 2026.10.0 of `test/fixtures/fake-esphome.ts` ready for the command lines. */
  async fakeEsphome(): Promise<void> {
    const folder = join(this.home.path, "cache", "esphome", "2026.10.0");
    const bin = join(folder, "env-fake", "bin");
    await mkdir(bin, { recursive: true });
    const fixture = join(root, "test/fixtures/fake-esphome.ts");
    const script = `#!/bin/sh\nexec "${process.execPath}" "${fixture}" "$@"\n`;
    await writeFile(join(bin, "esphome"), script, { mode: 0o755 });
    await writeFile(join(bin, "python"), "", { mode: 0o755 });
    await writeFile(join(folder, "ready.json"), JSON.stringify({ v: 1, folder: "env-fake", python: "3.13.0" }));
  }

  /** Writes a configuration of an ESP32 that is flashed over the air. @param more lines below, e.g. `# build: fail` */
  async configuration(name: string, ...more: readonly string[]): Promise<string> {
    const folder = join(this.home.path, "files");
    await mkdir(folder, { recursive: true });
    const file = join(folder, `${name}.yaml`);
    const head = ["esphome:", `  name: ${name}`, "esp32:", "api:", "ota:", "  - platform: esphome"];
    await writeFile(file, `${[...head, ...more].join("\n")}\n`);
    return file;
  }

  /** What is plugged in beside `flash-1` from now on; resolves when the coordinator knows it. */
  async plugIn(...ports: readonly SerialPortView[]): Promise<void> {
    this.#flasher?.setCapabilities({ upload: { ports: [...ports], flashers: [] } });
    const ids = ports.map(({ id }) => id).join();
    const seen = await poll(systemClock, { everyMs: 20, withinMs: waitMsMax }, async () => {
      const answer = await askAdmin(this.connection, { v: 1, kind: "agents" });
      if (answer.kind !== "agents") return undefined;
      const known = answer.agents.flatMap(({ announcement }) => announcement.upload?.ports.map(({ id }) => id) ?? []);
      return known.join() === ids ? true : undefined;
    });
    if (seen === undefined) throw new Error("the coordinator does not know the ports");
  }

  /** The newest chain of a reference. */
  async chain(reference: string): Promise<Chain> {
    const answer = await askAdmin(this.connection, { v: 1, kind: "resolve", reference });
    if (answer.kind !== "resolved") throw new Error(`${reference}: ${JSON.stringify(answer)}`);
    return answer.chain;
  }

  /** Runs a command line to its end inside this process, which takes a tenth of the time. Nobody can be asked. */
  within(...argv: readonly string[]): Promise<QuietEnd> {
    const { path } = this.home;
    const credentials = join(path, "credentials.json");
    return runQuietly(
      { servers: this.server.url, credentials, environment: {}, cacheFolder: join(path, "cache") },
      argv,
    );
  }

  spawn(...args: readonly string[]): RunningCli {
    const cli = new RunningCli(args, { ...plainEnvironment(), ...this.environment });
    this.#clis.push(cli);
    return cli;
  }

  /** SIGKILL, and a new one at once. */
  async replaceCoordinator(): Promise<void> {
    this.#coordinator.kill("SIGKILL");
    await once(this.#coordinator, "exit");
    this.#coordinator = this.#startCoordinator();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.work.flashes.resolve();
    for (const cli of this.#clis) if (cli.child.exitCode === null) cli.child.kill("SIGKILL");
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    const ended = once(this.#coordinator, "exit");
    this.#coordinator.kill("SIGTERM");
    await ended;
    await this.server[Symbol.asyncDispose]();
    await this.home[Symbol.asyncDispose]();
  }

  #startCoordinator(): ChildProcess {
    const own = { FLASHYARD_NATS_URL: this.server.url, FLASHYARD_LOG: "error" };
    const env = { ...plainEnvironment(), ...compiledOnce, ...own };
    return spawn(process.execPath, [join(root, "coordinator/main.ts")], {
      env,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  async #answers(): Promise<void> {
    const answer = await poll(systemClock, { everyMs: 20, withinMs: waitMsMax }, () =>
      askAdmin(this.connection, { v: 1, kind: "status" }).catch(() => undefined),
    );
    if (answer === undefined) throw new Error("the coordinator does not answer");
  }

  async #sees(agents: number): Promise<void> {
    const limits = { everyMs: 20, withinMs: waitMsMax };
    const seen = await poll(systemClock, limits, async () => {
      const answer = await askAdmin(this.connection, { v: 1, kind: "agents" });
      return answer.kind === "agents" && answer.agents.length === agents ? true : undefined;
    });
    if (seen === undefined) throw new Error("the coordinator does not see the agents");
  }

  async #startAgent(name: string, lane: Lane, slots: number): Promise<void> {
    const agent = AgentId.parse(name);
    const boot = BootId.parse(randomBytes(8).toString("hex"));
    const worker = new LaneWorker({
      identity: { agent, boot, lane, slots, version: farmVersion, host: "test", pid: process.pid },
      source: laneSource(this.connection, lane, agent, slots, silentLog),
      link: {
        ask: (ask) => askCoordinator(this.connection, agent, ask),
        announce: (statement) => announce(this.connection, statement),
        ping: () => this.connection.rtt(),
      },
      handler: async (dispatch, attempt) => {
        const result = await this.work.run(dispatch, attempt);
        this.#announceTrees();
        return result;
      },
      spool: memorySpool(),
      clock: systemClock,
      log: silentLog,
    });
    this.#workers.push(worker);
    if (lane === "compile") this.#builder = worker;
    else this.#flasher = worker;
    await worker.start();
    this.#announceTrees();
  }

  #announceTrees(): void {
    this.#builder?.setCapabilities({ compile: this.work.capabilities() });
  }
}
