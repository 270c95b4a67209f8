/**
 * An agent's machine: the production `LaneWorker` in a process that can be killed, paused and cut off, with a disk for
 * unreported results that survives it.
 *
 * 1. Every start is a new boot; nothing of the old process goes on.
 * 2. What was on the disk before a kill is there after it.
 */
import { LaneWorker, type JobHandler, type Link } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import type { ResultSpool, SpooledResult } from "#actor/result-spool.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { AgentId, type BootId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { AskAnswer } from "#protocol/messages.ts";
import { askSubject } from "#protocol/names.ts";
import type { AgentFault } from "#test/simulation/planted-agent-faults.ts";
import { simulatedLane } from "#test/simulation/simulated-lane.ts";
import { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

/** As in `bus/farm-client.ts`. */
const askTimeoutMs = 2_000;
const pingTimeoutMs = 1_000;

export interface SimulatedAgentOptions {
  readonly name: string;
  readonly lane: Lane;
  readonly slots: number;
  /** How far this machine's wall clock is from the true time. */
  readonly skewMs: number;
  readonly makeHandler: (process: SimulatedProcess) => JobHandler;
  readonly fault?: AgentFault | undefined;
}

export class SimulatedAgent {
  readonly name: string;
  readonly lane: Lane;
  /** Set for an agent that will not come back. */
  isGoneForGood = false;
  readonly #world: SimulatedWorld;
  readonly #options: SimulatedAgentOptions;
  readonly #disk = new Map<string, SpooledResult>();
  #process: SimulatedProcess | undefined;
  #worker: LaneWorker | undefined;
  #boots = 0;

  constructor(world: SimulatedWorld, options: SimulatedAgentOptions) {
    this.#world = world;
    this.#options = options;
    this.name = options.name;
    this.lane = options.lane;
  }

  get isRunning(): boolean {
    return this.#process?.isAlive === true;
  }

  start(): void {
    if (this.isRunning || this.isGoneForGood) return;
    const { time } = this.#world;
    const { name, lane, slots, skewMs, makeHandler, fault } = this.#options;
    const { handler = (sound: JobHandler) => sound, link = (sound: Link) => sound } = fault ?? {};
    const { spool = (sound: ResultSpool) => sound } = fault ?? {};
    this.#boots += 1;
    const boot = `${name.replaceAll("-", "")}boot${this.#boots}` as BootId;
    this.#world.trace(`${name} starts as ${boot}`);
    const process = new SimulatedProcess(time, name, () => this.#world.wallClock() + skewMs);
    this.#process = process;
    const worker = new LaneWorker({
      identity: {
        agent: AgentId.parse(name),
        boot,
        lane,
        slots,
        version: "0.1.0",
        host: name,
        pid: this.#boots,
        ...(lane === "compile" ? { compile: anyCompile } : {}),
      },
      source: simulatedLane(this.#world, process, slots),
      link: link(this.#link(process)),
      handler: handler(makeHandler(process), process),
      spool: spool(this.#spool(process)),
      clock: process.clock,
      log: silentLog,
    });
    this.#worker = worker;
    process.deliver(() => void worker.start());
  }

  kill(): void {
    if (this.isRunning) this.#world.trace(`${this.name} is killed`);
    this.#process?.kill();
  }

  pause(ms: number): void {
    this.#process?.pauseFor(ms);
  }

  /** Ends as a service does that is told to stop: no more work, flashes finished, then the process exits. */
  async shutDown(): Promise<void> {
    const process = this.#process;
    if (process?.isAlive !== true) return;
    this.#world.trace(`${this.name} is shut down`);
    this.#world.time.stir();
    await this.#worker?.stop();
    if (process === this.#process) this.kill();
  }

  #link(process: SimulatedProcess): Link {
    const { network, server, watcher } = this.#world;
    const { name } = this.#options;
    const subject = askSubject(AgentId.parse(name));
    return {
      ask: (ask) =>
        new Promise((resolve, reject) => {
          const cancel = process.after(askTimeoutMs, () =>
            reject(new UnavailableError("no-answer", `${ask.kind} was not answered`)),
          );
          const answered = (body: unknown) =>
            process.deliver(() => {
              cancel();
              resolve(body as AskAnswer);
            });
          const given = () => {
            if (ask.kind === "report") watcher.noted(name, ask);
          };
          server.subjects.ask("asks", { from: name, subject, message: ask, given, answered });
        }),
      // In the order of the agent's statements, across its boots: the server stores them before the next boot can speak.
      announce: (announcement) => {
        watcher.stated(process);
        network.sendInOrder(`presence ${name}`, name, "server", () => server.state(announcement));
      },
      ping: () =>
        new Promise((resolve, reject) => {
          if (!network.isCut(name)) resolve(undefined);
          else
            process.after(pingTimeoutMs, () => reject(new UnavailableError("no-answer", "the server does not answer")));
        }),
    };
  }

  #spool(process: SimulatedProcess): ResultSpool {
    const keyOf = ({ chain, job, attempt }: SpooledResult) => `${chain}.${job}.${attempt}`;
    const disk = this.#disk;
    const inAMoment = <T>(work: () => T) =>
      new Promise<T>((resolve) => {
        process.after(1, () => resolve(work()));
      });
    return {
      write: (entry) =>
        inAMoment(() => {
          this.#world.watcher.kept(process, entry, entry.result);
          disk.set(keyOf(entry), entry);
        }),
      remove: (entry) => inAMoment(() => void disk.delete(keyOf(entry))),
      all: () => inAMoment(() => [...disk.values()]),
    };
  }
}

const anyCompile = { esphomeVersions: [], makesEnvironments: true, pythons: [], cpus: 2, memoryBytes: 1, warm: [] };
