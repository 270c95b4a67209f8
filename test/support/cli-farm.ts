/**
 * A farm for the command line: a real nats-server, the real coordinator as a process, and agents of this process, made of the
 * real lane worker, whose builds do what the first word of their command says: `succeed`, `fail`, `hang`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { type Attempt, type JobHandler, LaneWorker } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { memorySpool } from "#actor/result-spool.ts";
import { plainEnvironment } from "#actor/subprocess.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { AgentId, BootId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { objectStores } from "#protocol/names.ts";
import { farmVersion } from "#protocol/version.ts";
import type { Connection } from "#bus/connection.ts";
import { askAdmin, askCoordinator } from "#bus/farm-client.ts";
import { JobLogWriter, publishProgress } from "#bus/job-log.ts";
import { laneSource } from "#bus/lanes.ts";
import { digestOf } from "#actor/digest.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { announce } from "#bus/presence.ts";
import { type TestServer, testServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
const waitMsMax = 10_000;

/** What a build named `succeed` leaves behind. */
export const image = Buffer.from("the image");

/** A command line that runs. */
export class RunningCli {
  readonly child: ChildProcess;
  readonly #ended: Promise<unknown>;
  out = "";
  err = "";

  constructor(args: readonly string[], env: Readonly<Record<string, string>>) {
    this.child = spawn(process.execPath, [join(root, "cli/main.ts"), ...args], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.on("data", (chunk: Buffer) => (this.out += chunk.toString()));
    this.child.stderr?.on("data", (chunk: Buffer) => (this.err += chunk.toString()));
    this.#ended = once(this.child, "close");
  }

  /** Resolves when the standard output holds this. */
  async prints(pattern: RegExp): Promise<void> {
    const limits = { everyMs: 5, withinMs: waitMsMax };
    const seen = await poll(systemClock, limits, () => (pattern.test(this.out) ? true : undefined));
    if (seen === undefined) throw new Error(`no ${String(pattern)} in:\n${this.out}\n${this.err}`);
  }

  async code(): Promise<number | null> {
    await this.#ended;
    return this.child.exitCode;
  }

  /** The standard output as one JSON object a line. */
  json(): readonly Record<string, unknown>[] {
    const lines = this.out.split("\n").filter((line) => line !== "");
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }
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
  /** Lets flashes end that were begun. */
  readonly flashes = Promise.withResolvers<void>();
  readonly #workers: LaneWorker[] = [];
  readonly #clis: RunningCli[] = [];
  #coordinator: ChildProcess;

  constructor(server: TestServer, home: TemporaryFolder, connection: Connection) {
    this.server = server;
    this.home = home;
    this.connection = connection;
    this.#coordinator = this.#startCoordinator();
  }

  static async start(): Promise<CliFarm> {
    const [server, home] = await Promise.all([testServer(), temporaryFolder()]);
    const farm = new CliFarm(server, home, await server.connect());
    await farm.#answers();
    await farm.#work("build-1", "compile", 4, (dispatch, attempt) => farm.#build(dispatch, attempt));
    await farm.#work("flash-1", "upload", 1, (_dispatch, attempt) => farm.#flash(attempt));
    await farm.#sees(2);
    return farm;
  }

  get environment(): Readonly<Record<string, string>> {
    return { FLASHYARD_NATS_URL: this.server.url, FLASHYARD_CACHE: join(this.home.path, "cache") };
  }

  run(...args: readonly string[]): Promise<RunningCli> {
    return runCli(args, this.environment);
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
    this.flashes.resolve();
    for (const cli of this.#clis) if (cli.child.exitCode === null) cli.child.kill("SIGKILL");
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    const ended = once(this.#coordinator, "exit");
    this.#coordinator.kill("SIGTERM");
    await ended;
    await this.server[Symbol.asyncDispose]();
    await this.home[Symbol.asyncDispose]();
  }

  #startCoordinator(): ChildProcess {
    const env = { ...plainEnvironment(), FLASHYARD_NATS_URL: this.server.url, FLASHYARD_LOG: "error" };
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

  async #work(name: string, lane: Lane, slots: number, handler: JobHandler): Promise<void> {
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
      handler,
      spool: memorySpool(),
      clock: systemClock,
      log: silentLog,
    });
    this.#workers.push(worker);
    await worker.start();
  }

  async #build({ chain, ...dispatch }: Dispatch, attempt: Attempt): Promise<JobResult> {
    if (dispatch.job !== "compile" || dispatch.spec.driver !== "command") throw new Error("not a command");
    const log = new JobLogWriter(this.connection, chain, "compile");
    const [word, ...rest] = dispatch.spec.argv;
    for (const line of [`${word ?? ""} begins`, ...rest]) log.line(line);
    publishProgress(this.connection, chain, "compile", { v: 1, phase: "compiling", percent: 40 });
    if (word === "hang" && !attempt.signal.aborted) await once(attempt.signal, "abort");
    log.line(`${word ?? ""} ends`);
    await log.close();
    if (word === "hang") return { kind: "stopped" };
    if (word === "fail") {
      const tail = ["src/main.c:3:1: error: expected ';'", "make: *** [all] Error 1\u001b[31m"];
      return { kind: "failed", failure: { kind: "compiler-exit", exitCode: 2, tail } };
    }
    await new ObjectStore(this.connection, objectStores.artifacts).put(digestOf(image), image);
    const manifest: ArtifactManifest = {
      v: 1,
      tool: { name: "succeed", version: "unknown" },
      platform: dispatch.spec.platform,
      images: [{ role: "other", name: "firmware.bin", digest: digestOf(image), bytes: image.length }],
    };
    return { kind: "built", manifest, buildMs: 5 };
  }

  async #flash(attempt: Attempt): Promise<JobResult> {
    if ((await attempt.claimFlash()) !== "go") return { kind: "stopped" };
    await this.flashes.promise;
    const report = {
      name: "lamp",
      mac: "AA:BB:CC:DD:EE:FF",
      compilationTime: "2026-11-25 12:00:00 +0000",
      esphomeVersion: "2026.10.0",
    };
    return { kind: "flashed", level: "running", wrote: true, flashMs: 5, report };
  }
}
