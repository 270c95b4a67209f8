/** One simulated farm from its seed to its verdict. */
import type { ChainRequest } from "#protocol/admin.ts";
import { type Chain, jobsOf } from "#protocol/chain.ts";
import { type ChainId, chainIdFrom, Configuration, Digest } from "#protocol/ids.ts";
import { OtaTarget } from "#protocol/job.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import { type FaultPlan, planFaults, type Trouble } from "#test/simulation/fault-plan.ts";
import { Oracle } from "#test/simulation/oracle.ts";
import { SimulatedAgent } from "#test/simulation/simulated-agent.ts";
import { SimulatedCoordinator } from "#test/simulation/simulated-coordinator.ts";
import { SimulatedDevice } from "#test/simulation/simulated-device.ts";
import { faultlessNetwork, SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import { SimulatedServer } from "#test/simulation/simulated-server.ts";
import { SimulatedTime } from "#test/simulation/simulated-time.ts";
import { SimulatedUser } from "#test/simulation/simulated-user.ts";
import { makeWork } from "#test/simulation/simulated-work.ts";
import type { Decide, ShellFaults, SimulatedWorld } from "#test/simulation/simulated-world.ts";

export interface SimulationOptions {
  /** Stands in for the core's `transitionAll`; for planted faults. */
  readonly decide?: Decide;
  readonly shellFaults?: ShellFaults;
  /** The only kinds of trouble, for mistakes that show in few situations. */
  readonly focus?: readonly Trouble["kind"][];
  /** False: only the devices, the answers and the ends of chains are judged. */
  readonly checksRecords?: boolean;
}

export interface Verdict {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly trace: readonly string[];
  /** Simulated time that went by. */
  readonly ms: number;
  readonly chains: number;
  readonly sessions: number;
  /** Attempts that only asked the device, because an earlier one may have flashed it. */
  readonly probes: number;
  /** How many jobs ended how, as `upload succeeded`. */
  readonly ends: ReadonlyMap<string, number>;
}

const startWallMs = Date.UTC(2026, 0, 1);
/** Long enough for a chain of lost flashes, each with its wait of 135 s; whoever needs longer never ends. */
const calmMsMax = 30 * 60_000;

export async function simulate(seed: number, options: SimulationOptions = {}): Promise<Verdict> {
  return new Simulation(seed, options).run();
}

class Simulation {
  readonly #seed: number;
  readonly #random: SimulatedRandom;
  readonly #time = new SimulatedTime();
  readonly #network: SimulatedNetwork;
  readonly #server: SimulatedServer;
  readonly #oracle: Oracle;
  readonly #world: SimulatedWorld;
  readonly #plan: FaultPlan;
  readonly #devices: readonly SimulatedDevice[];
  readonly #agents: readonly SimulatedAgent[];
  readonly #user: SimulatedUser;
  readonly #trace: string[] = [];
  readonly #options: SimulationOptions;
  #coordinator: SimulatedCoordinator | undefined;
  readonly #rivals = new Set<SimulatedCoordinator>();
  #wallOffsetMs = 0;
  #requests = 0;
  #buildFailureChance: number;

  constructor(seed: number, options: SimulationOptions) {
    this.#seed = seed;
    this.#options = options;
    this.#random = new SimulatedRandom(seed);
    const random = this.#random;
    const time = this.#time;
    this.#network = new SimulatedNetwork(time, random);
    this.#server = new SimulatedServer(time, this.#network, (id, before, after) => {
      this.#oracle.written(id, before, after);
      this.#reactTo(before, after);
    });
    this.#server.keepsMarkers = options.shellFaults?.forgetsHistory !== true;
    const trace = (line: string) => void this.#trace.push(`${String(time.now).padStart(7)} ${line}`);
    this.#oracle = new Oracle({
      record: (id) => this.#server.record(id),
      history: this.#server.history,
      devices: () => this.#devices,
      trace,
      checksRecords: options.checksRecords ?? true,
    });
    this.#world = {
      time,
      random,
      network: this.#network,
      server: this.#server,
      watcher: this.#oracle,
      wallClock: () => startWallMs + time.now + this.#wallOffsetMs,
      trace,
    };
    this.#plan = planFaults(random, options.focus);
    this.#buildFailureChance = this.#plan.buildFailureChance;
    this.#devices = this.#makeDevices();
    this.#agents = this.#makeAgents();
    this.#user = new SimulatedUser(this.#world, () => this.#coordinator);
  }

  async run(): Promise<Verdict> {
    this.#network.faults = this.#plan.network;
    this.#startCoordinator();
    for (const agent of this.#agents) agent.start();
    for (const { at, trouble } of this.#plan.troubles) this.#time.after(at, () => this.#make(trouble));
    this.#planRequests();
    const isBroken = () => this.#oracle.violations.length > 0;
    await this.#time.run(this.#plan.chaosMs, isBroken);
    if (!isBroken()) {
      this.#calmDown();
      const isDone = () => this.#user.openRequests === 0 && this.#server.ids().length === 0;
      await this.#time.run(this.#time.now + calmMsMax, () => isBroken() || isDone());
    }
    if (!isBroken()) this.#oracle.finish(this.#user.openRequests, this.#server.ids());
    return this.#verdict();
  }

  #verdict(): Verdict {
    const jobs = [...this.#server.history.values()].flatMap((chain) => jobsOf(chain));
    const ends = new Map<string, number>();
    for (const { name, state } of jobs) ends.set(`${name} ${state}`, (ends.get(`${name} ${state}`) ?? 0) + 1);
    return {
      seed: this.#seed,
      violations: this.#oracle.violations,
      trace: this.#trace,
      ms: this.#time.now,
      chains: this.#oracle.accepted.size,
      sessions: this.#devices.reduce((sum, { sessions }) => sum + sessions.length, 0),
      probes: jobs.filter((job) => job.lane === "upload" && job.mode === "probe").length,
      ends,
    };
  }

  #makeDevices(): readonly SimulatedDevice[] {
    const random = this.#random;
    const isSlowFarm = random.chance(0.15);
    return Array.from({ length: random.between(1, 4) }, (_, index) => {
      const partMs = isSlowFarm && index === 0 ? random.between(20_000, 60_000) : random.between(100, 4_000);
      const device = new SimulatedDevice(`device-${index}`, partMs, this.#time, random, (device, session) =>
        this.#oracle.opened(device, session),
      );
      device.fates = this.#plan.fates;
      return device;
    });
  }

  #makeAgents(): readonly SimulatedAgent[] {
    const random = this.#random;
    const buildMsMax = random.pick([1_000, 20_000]);
    const unchangedShare = random.pick([0, 0, 0.5]);
    const work = {
      world: this.#world,
      deviceAt: (host: string) => this.#devices.find((device) => device.host === host)!,
      buildMsMax,
      failureChance: () => this.#buildFailureChance,
      isUnchanged: (configuration: string) => (Number(configuration.split(" ")[1]) % 4) / 4 < unchangedShare,
    };
    const lanes = [
      ...repeat("compile" as const, random.between(1, 2)),
      ...repeat("upload" as const, random.between(1, 2)),
    ];
    return lanes.map(
      (lane, index) =>
        new SimulatedAgent(this.#world, {
          name: `${lane}-${index}`,
          lane,
          slots: random.between(1, 2),
          skewMs: random.pick([0, 0, -5_000, 60_000]),
          makeHandler: (process) => makeWork(work, process),
          coordinator: () => this.#coordinator,
          hear: (announcement) => {
            for (const listener of [this.#coordinator, ...this.#rivals]) listener?.hear(announcement);
          },
        }),
    );
  }

  #startCoordinator(): void {
    this.#world.trace("the coordinator starts");
    const decide = this.#options.decide ?? transitionAll;
    this.#coordinator = new SimulatedCoordinator(
      this.#world,
      decide,
      this.#options.shellFaults ?? {},
      (agent, order) => {
        this.#agents.find(({ name }) => name === agent)?.order(order);
      },
    );
  }

  /** Requests and cancels over the first part of the run; several configurations may share a device. */
  #planRequests(): void {
    const random = this.#random;
    const configurations = this.#devices.length + random.between(0, 1);
    const asked: ChainId[] = [];
    for (let count = random.pick([2, 5, 10]); count > 0; count -= 1) {
      this.#time.after(random.between(0, this.#plan.chaosMs), () => {
        const size = Math.min(random.pick([1, 1, 1, 2, 3]), configurations);
        const first = random.between(0, configurations - 1);
        const chains = Array.from({ length: size }, (_, index) => this.#makeRequest((first + index) % configurations));
        asked.push(...chains.map(({ id }) => id));
        this.#user.submit(chains);
        for (const { id } of chains) {
          if (random.chance(0.25)) this.#time.after(random.between(0, 20_000), () => this.#cancel(id));
        }
      });
    }
  }

  /** Some users cancel or ask anew in the very moment in which an upload starts, when it is hardest to be right. */
  #reactTo(before: Chain | undefined, after: Chain | undefined): void {
    const random = this.#random;
    const hasStarted = after?.upload?.state === "running" && before?.upload?.state !== "running";
    if (!hasStarted || this.#time.now > this.#plan.chaosMs || !random.chance(this.#plan.meddlingChance)) return;
    const { id, configuration } = after;
    const isCancel = random.chance(0.6);
    this.#time.after(random.between(0, 3_000), () => {
      if (isCancel) this.#cancel(id);
      else this.#user.submit([this.#makeRequest(Number(configuration.split(" ")[1]))]);
    });
  }

  #cancel(id: ChainId): void {
    const jobs = this.#random.pick([undefined, undefined, ["upload" as const], ["compile" as const]]);
    this.#user.cancel(id, jobs);
  }

  #makeRequest(configuration: number): ChainRequest {
    const random = this.#random;
    this.#requests += 1;
    const id = chainIdFrom(startWallMs + this.#requests, new Uint8Array(6));
    const kind = random.pick(["install", "install", "install", "build", "upload"] as const);
    const host = this.#devices[configuration % this.#devices.length]!.host;
    const common = { id, kind, configuration: Configuration.parse(`configuration ${configuration}`) };
    const bundle = Digest.parse("1".repeat(64));
    const build = { driver: "esphome" as const, version: "2026.10.0", bundle, entry: "device.yaml" };
    const target = OtaTarget.parse({ kind: "ota", host, port: 3232, name: host });
    const esphome = {
      name: host,
      configHash: "1",
      buildTime: 1,
      buildTimeStr: `given for ${id}`,
      esphomeVersion: "2026.10.0",
    };
    const manifest = {
      v: 1 as const,
      tool: { name: "esphome", version: "2026.10.0" },
      platform: "esp32",
      images: [{ role: "ota" as const, name: "firmware.ota.bin", digest: bundle, bytes: 1_000 }],
      esphome,
    };
    if (kind === "build") return { ...common, build };
    return kind === "install" ? { ...common, build, upload: { target } } : { ...common, upload: { target, manifest } };
  }

  #make(trouble: Trouble): void {
    this.#world.trace(`trouble: ${JSON.stringify(trouble)}`);
    switch (trouble.kind) {
      case "coordinator-crash":
        this.#coordinator?.process.kill();
        this.#coordinator = undefined;
        this.#time.after(trouble.downMs, () => this.#reviveCoordinator());
        return;
      case "coordinator-rival":
        return this.#replaceCoordinator(trouble.pauseMs, trouble.rivalMs);
      case "coordinator-cut":
        this.#network.cut("coordinator", trouble.ms);
        this.#time.after(trouble.ms + 1, () => this.#coordinator?.reconnected());
        return;
      case "server-restart":
        this.#server.restart();
        for (const end of ["coordinator", "user", ...this.#agents.map(({ name }) => name)]) {
          this.#network.cut(end, trouble.downMs + this.#random.between(0, 500));
        }
        this.#time.after(trouble.downMs + 501, () => this.#coordinator?.reconnected());
        return;
      case "agent-kill":
        return this.#killAgent(this.#agentNumber(trouble.agent), trouble.downMs, trouble.forGood);
      case "agent-shutdown":
        void this.#restartPolitely(this.#agentNumber(trouble.agent), trouble.downMs);
        return;
      case "agent-pause":
        return this.#agentNumber(trouble.agent).pause(trouble.ms);
      case "agent-cut":
        return this.#network.cut(this.#agentNumber(trouble.agent).name, trouble.ms);
      case "device-away":
        return this.#devices[trouble.device % this.#devices.length]!.beAway(trouble.ms);
      case "clock-jump":
        this.#wallOffsetMs += trouble.ms;
    }
  }

  #killAgent(agent: SimulatedAgent, downMs: number, forGood: boolean): void {
    agent.kill();
    const others = this.#agents.filter((other) => other.lane === agent.lane && !other.isGoneForGood && other !== agent);
    // A build that failed for want of a tool waits for another agent, for ever if that one never comes back: not a fault.
    const isMissed = agent.lane === "compile" && this.#plan.buildFailureChance > 0;
    if (forGood && others.length > 0 && !isMissed) agent.isGoneForGood = true;
    this.#time.after(downMs, () => agent.start());
  }

  /** Asks go to the successor alone; statements of agents are heard by both. */
  #replaceCoordinator(pauseMs: number, rivalMs: number): void {
    const old = this.#coordinator;
    if (old === undefined) return;
    old.process.pauseFor(pauseMs);
    this.#rivals.add(old);
    this.#time.after(pauseMs + rivalMs, () => {
      old.process.kill();
      this.#rivals.delete(old);
    });
    this.#startCoordinator();
  }

  async #restartPolitely(agent: SimulatedAgent, downMs: number): Promise<void> {
    await agent.shutDown();
    this.#time.after(downMs, () => agent.start());
  }

  #agentNumber(n: number): SimulatedAgent {
    return this.#agents[n % this.#agents.length]!;
  }

  #reviveCoordinator(): void {
    if (this.#coordinator === undefined) this.#startCoordinator();
  }

  /** The faults stop. What is down comes back by the plan that it already has; what was broken is repaired. */
  #calmDown(): void {
    this.#world.trace("the faults stop");
    this.#network.faults = faultlessNetwork;
    this.#buildFailureChance = 0;
    this.#reviveCoordinator();
  }
}

function repeat<T>(item: T, times: number): readonly T[] {
  return Array.from({ length: times }, () => item);
}
