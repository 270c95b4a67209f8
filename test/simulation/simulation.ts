/** One simulated farm from its seed to its verdict. */
import { jobsOf } from "#protocol/chain.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import { type FaultPlan, planFaults, type Trouble } from "#test/simulation/fault-plan.ts";
import { Oracle } from "#test/simulation/oracle.ts";
import type { AgentFault } from "#test/simulation/planted-agent-faults.ts";
import { SimulatedAgent } from "#test/simulation/simulated-agent.ts";
import { type CoordinatorFault, SimulatedCoordinator } from "#test/simulation/simulated-coordinator.ts";
import { SimulatedDemand } from "#test/simulation/simulated-demand.ts";
import { SimulatedDevice } from "#test/simulation/simulated-device.ts";
import { faultlessNetwork, SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import { SimulatedServer } from "#test/simulation/simulated-server.ts";
import { SimulatedTime } from "#test/simulation/simulated-time.ts";
import { SimulatedUser } from "#test/simulation/simulated-user.ts";
import { makeWork } from "#test/simulation/simulated-work.ts";
import type { Decide, SimulatedWorld } from "#test/simulation/simulated-world.ts";
import { TakeoverWatch } from "#test/simulation/takeover-watch.ts";

/**
 * `safety`: the faults never stop, and whatever happens is judged. `liveness`: they stop, and every chain must end; the steps on
 * the way there are not judged. `both`: everything is judged, and the faults stop.
 */
export type Mode = "safety" | "liveness" | "both";

export interface SimulationOptions {
  /** `both` when left out. */
  readonly mode?: Mode;
  /** Stands in for the core's `transitionAll`; for planted faults. */
  readonly decide?: Decide;
  readonly plantFault?: () => CoordinatorFault;
  readonly agentFault?: AgentFault;
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
  /** Troubles of a leading coordinator after which a standby had to lead. */
  readonly takeovers: number;
  /** How many jobs ended how, as `upload succeeded`. */
  readonly ends: ReadonlyMap<string, number>;
}

const startWallMs = Date.UTC(2026, 0, 1);
/** Long enough for a chain of lost flashes, each with its wait of 135 s; whoever needs longer never ends. */
const calmMsMax = 30 * 60_000;
/** Without a calm: so long that lost flashes are still asked about among faults. */
const afterChaosMs = 170_000;

export async function simulate(seed: number, options: SimulationOptions = {}): Promise<Verdict> {
  return new Simulation(seed, options).run();
}

class Simulation {
  readonly #seed: number;
  readonly #mode: Mode;
  readonly #random: SimulatedRandom;
  readonly #time = new SimulatedTime();
  readonly #network: SimulatedNetwork;
  readonly #server: SimulatedServer;
  readonly #oracle: Oracle;
  readonly #world: SimulatedWorld;
  readonly #plan: FaultPlan;
  readonly #devices: readonly SimulatedDevice[];
  readonly #agents: readonly SimulatedAgent[];
  readonly #coordinators: readonly SimulatedCoordinator[];
  readonly #takeovers: TakeoverWatch;
  readonly #user: SimulatedUser;
  readonly #demand: SimulatedDemand;
  readonly #trace: string[] = [];
  #wallOffsetMs = 0;
  #buildFailureChance: number;

  constructor(seed: number, options: SimulationOptions) {
    this.#seed = seed;
    this.#mode = options.mode ?? "both";
    this.#random = new SimulatedRandom(seed);
    const random = this.#random;
    const time = this.#time;
    this.#network = new SimulatedNetwork(time, random);
    this.#server = new SimulatedServer(time, this.#network, {
      written: (id, before, after) => {
        this.#oracle.written(id, before, after);
        this.#demand.reactTo(before, after);
      },
      landed: (ids) => this.#oracle.landed(ids),
    });
    const trace = (line: string) => void this.#trace.push(`${String(time.now).padStart(7)} ${line}`);
    this.#oracle = new Oracle({
      record: (id) => this.#server.record(id),
      records: () => this.#server.records(),
      history: this.#server.history,
      devices: () => this.#devices,
      trace,
      checksRecords: this.#mode !== "liveness" && (options.checksRecords ?? true),
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
    this.#agents = this.#makeAgents(options.agentFault);
    const fault = options.plantFault?.() ?? {};
    this.#coordinators = Array.from(
      { length: 1 + this.#plan.standbys },
      (_, index) =>
        new SimulatedCoordinator(this.#world, `coordinator-${index}`, options.decide ?? transitionAll, fault),
    );
    this.#takeovers = new TakeoverWatch(time, this.#coordinators, (sentence) => this.#oracle.missed(sentence));
    this.#user = new SimulatedUser(this.#world);
    const hosts = this.#devices.map(({ host }) => host);
    const installedAt = (host: string) => this.#devices.find((device) => device.host === host)?.installed;
    this.#demand = new SimulatedDemand(this.#world, this.#user, this.#plan, hosts, installedAt);
  }

  async run(): Promise<Verdict> {
    this.#network.faults = this.#plan.network;
    for (const coordinator of this.#coordinators) coordinator.start();
    for (const agent of this.#agents) agent.start();
    for (const { at, trouble } of this.#plan.troubles) this.#time.after(at, () => this.#make(trouble));
    this.#demand.start();
    const isBroken = () => this.#oracle.violations.length > 0;
    await this.#time.run(this.#plan.chaosMs, isBroken);
    const isCalm = this.#mode !== "safety";
    if (!isBroken()) {
      if (isCalm) this.#calmDown();
      const untilMs = this.#time.now + (isCalm ? calmMsMax : afterChaosMs);
      const isDone = () => this.#user.openRequests === 0 && this.#server.isEmpty;
      await this.#time.run(untilMs, () => isBroken() || isDone());
    }
    if (!isBroken()) this.#oracle.finish();
    if (!isBroken() && isCalm) this.#oracle.finishCalm(this.#user.openRequests, this.#server.ids());
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
      probes: jobs.filter((job) => job.name === "upload" && job.mode === "probe").length,
      takeovers: this.#takeovers.judged,
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

  #makeAgents(fault: AgentFault | undefined): readonly SimulatedAgent[] {
    const random = this.#random;
    const buildMsMax = random.pick([1_000, 1_000, 20_000, 20_000, 60_000]);
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
          fault,
        }),
    );
  }

  #make(trouble: Trouble): void {
    this.#world.trace(`trouble: ${JSON.stringify(trouble)}`);
    switch (trouble.kind) {
      case "coordinator-crash":
        return this.#killLeader(trouble.downMs);
      case "coordinator-pause":
        return this.#troubleLeader((leader) => leader.pause(trouble.ms));
      case "coordinator-cut":
        return this.#troubleLeader((leader) => leader.cut(trouble.ms));
      case "server-restart":
        return this.#restartServer(trouble.downMs);
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

  /** Whoever leads; one that still could, where nobody does. */
  #troubleLeader(make: (leader: SimulatedCoordinator) => void): void {
    const running = this.#coordinators.filter(({ isRunning }) => isRunning);
    const leader = running.find(({ isLeading, isAble }) => isLeading && isAble) ?? running[0];
    if (leader === undefined) return;
    const { lossChance, slowChance } = this.#plan.network;
    if (lossChance === 0 && slowChance === 0) this.#takeovers.lead(leader);
    make(leader);
  }

  #killLeader(downMs: number): void {
    this.#troubleLeader((leader) => {
      leader.kill();
      this.#time.after(downMs, () => leader.start());
    });
  }

  #restartServer(downMs: number): void {
    this.#takeovers.disturb();
    this.#server.restart();
    const cutMs = () => downMs + this.#random.between(0, 500);
    for (const end of ["user", ...this.#agents.map(({ name }) => name)]) this.#network.cut(end, cutMs());
    for (const coordinator of this.#coordinators) coordinator.cut(cutMs());
  }

  #killAgent(agent: SimulatedAgent, downMs: number, forGood: boolean): void {
    agent.kill();
    const others = this.#agents.filter((other) => other.lane === agent.lane && !other.isGoneForGood && other !== agent);
    // A build that failed for want of a tool waits for another agent, for ever if that one never comes back: not a fault.
    const isMissed = agent.lane === "compile" && this.#plan.buildFailureChance > 0;
    if (forGood && others.length > 0 && !isMissed) agent.isGoneForGood = true;
    this.#time.after(downMs, () => agent.start());
  }

  async #restartPolitely(agent: SimulatedAgent, downMs: number): Promise<void> {
    await agent.shutDown();
    this.#time.after(downMs, () => agent.start());
  }

  #agentNumber(n: number): SimulatedAgent {
    return this.#agents[n % this.#agents.length]!;
  }

  /** The faults stop. What is down comes back by the plan that it already has; what was broken is repaired. */
  #calmDown(): void {
    this.#world.trace("the faults stop");
    this.#network.faults = faultlessNetwork;
    this.#buildFailureChance = 0;
    for (const coordinator of this.#coordinators) coordinator.start();
  }
}

function repeat<T>(item: T, times: number): readonly T[] {
  return Array.from({ length: times }, () => item);
}
