/**
 * The production core with a thousand agents, two thousand queued and a thousand running chains, brought there and kept there by
 * nothing but events.
 */
import type { HeldJob } from "#protocol/agent.ts";
import type { Chain } from "#protocol/chain.ts";
import { InvariantError } from "#protocol/errors.ts";
import type { AgentId, ChainId, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import { buildRecordOf } from "#coordinator/core/reuse.ts";
import { learnFrom } from "#coordinator/core/durations.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { type Knowledge, noKnowledge } from "#coordinator/core/knowledge.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import { configurations, endedChain, manifestNumber } from "#bench/scale/ended-chain.ts";
import { identityNumber } from "#bench/scale/simulated-agent.ts";
import { installNumber } from "#bench/scale/work.ts";

export const agents = 1_000;
export const chains = 3_000;
/** Between two events on the core's clock. */
const tickMs = 1;

/** Told of every transition, with what it was about. */
type Measure = (kind: string, ms: number) => void;

interface InHand extends HeldJob {
  readonly agent: AgentId;
}

const built: JobResult = { kind: "built", manifest: manifestNumber(1), buildMs: 40_000, isWarm: false };
const flashed: JobResult = { kind: "flashed", level: "running", wrote: true, flashMs: 15_000 };

export class BusyCore {
  farm: Farm;
  at: number;
  readonly #numbers = new Map<AgentId, number>();
  /** What was dispatched and is not claimed yet, oldest first. */
  readonly #dispatched: InHand[] = [];
  /** What runs, oldest first. */
  readonly #running: Record<"compile" | "upload", InHand[]> = { compile: [], upload: [] };
  /** Ended chains that are still live. */
  readonly #ended: ChainId[] = [];
  readonly #measure: Measure;
  #asked = 0;

  constructor(at: number, measure: Measure) {
    this.at = at;
    this.#measure = measure;
    this.farm = { ...emptyFarm, knowledge: learned(at) };
    for (let number = 0; number < agents; number += 1) this.#numbers.set(identityNumber(number).agent, number);
  }

  get running(): number {
    return this.#running.compile.length + this.#running.upload.length;
  }

  /** All agents are heard, all chains asked for; every slot of both lanes comes to work. */
  fill(): void {
    this.step("fill", ...[...this.#numbers.keys()].map((agent) => this.#statement(agent)));
    while (this.#asked < chains) this.submit(1_000);
    this.claimTogether();
    this.step("fill", ...this.#running.compile.splice(0).map((held) => this.#reportOf(held)));
    this.claimTogether();
  }

  /** One transition over these events, timed. */
  step(kind: string, ...events: readonly FarmEvent[]): void {
    this.at += tickMs;
    const startedAt = performance.now();
    const { farm, effects } = transitionAll(this.farm, events, this.at);
    this.#measure(kind, performance.now() - startedAt);
    this.farm = farm;
    for (const effect of effects) {
      if (effect.kind === "archive") this.#ended.push(effect.chain);
      if (effect.kind !== "dispatch") continue;
      const { agent, chain, job, attempt } = effect;
      this.#dispatched.push({ agent, chain, job, attempt });
    }
  }

  submit(count: number): void {
    const requests = Array.from({ length: count }, () => installNumber(this.#asked++, this.at));
    this.step(`${count} asked for`, { kind: "chains-submitted", chains: requests, answerTo: 1 });
  }

  /** @returns false when there is nothing to claim */
  claim(): boolean {
    const held = this.#dispatched.shift();
    if (held === undefined) return false;
    this.step("claim", this.#claimOf("job-claimed", held));
    if (held.job === "clean" || held.job === "confirm") return true;
    this.#running[held.job].push(held);
    if (held.job === "upload") this.step("flash claim", this.#claimOf("flash-claimed", held));
    return true;
  }

  /** All that is dispatched is claimed while the coordinator writes, and the flashes with it. */
  claimTogether(): void {
    const taken = this.#dispatched.splice(0);
    for (const held of taken) if (held.job === "compile" || held.job === "upload") this.#running[held.job].push(held);
    const claims = taken.map((held) => this.#claimOf("job-claimed", held));
    const uploads = taken.filter(({ job }) => job === "upload");
    const flashes = uploads.map((held) => this.#claimOf("flash-claimed", held));
    this.step("claims together", ...claims, ...flashes);
  }

  reportBuild(): void {
    this.step("report of a build", this.#report("compile"));
  }

  reportFlash(): void {
    this.step("report of a flash", this.#report("upload"));
  }

  /** As many builds and as many flashes end while the coordinator writes. */
  reportTogether(count: number): void {
    const reports = Array.from({ length: count }, () => [this.#report("compile"), this.#report("upload")]).flat();
    this.step(`${reports.length} reports`, ...reports);
  }

  #claimOf(kind: "job-claimed" | "flash-claimed", held: InHand): FarmEvent {
    return { kind, ...this.#from(held) };
  }

  #report(job: "compile" | "upload"): FarmEvent {
    const held = this.#running[job].shift();
    if (held === undefined) throw new InvariantError("nothing-runs", `no ${job} is running`);
    return this.#reportOf(held);
  }

  #reportOf(held: InHand): FarmEvent {
    return { kind: "job-reported", ...this.#from(held), result: held.job === "compile" ? built : flashed };
  }

  /** What has gone to the history leaves the farm. */
  archive(): void {
    const ended = this.#ended.splice(0).map((chain) => ({ kind: "chain-archived" as const, chain }));
    this.step(ended.length === 1 ? "archived" : "archived together", ...ended);
  }

  /** The n-th agent says what it has. */
  state(number: number): void {
    this.step("statement", this.#statement(identityNumber(number).agent));
  }

  /** Agents that spoke while the coordinator wrote. */
  stateTogether(first: number, count: number): void {
    const agents = Array.from({ length: count }, (_, index) => identityNumber(first + index).agent);
    this.step(`${count} statements`, ...agents.map((agent) => this.#statement(agent)));
  }

  passTime(): void {
    this.step("time passed", { kind: "time-passed" });
  }

  #statement(agent: AgentId): FarmEvent {
    const held = [...this.#running.compile, ...this.#running.upload, ...this.#dispatched];
    const holding = held
      .filter((one) => one.agent === agent)
      .map(({ chain, job, attempt }) => ({ chain, job, attempt }));
    const idleSince = holding.length === 0 ? this.at : null;
    const identity = identityNumber(this.#numbers.get(agent) ?? 0);
    return { kind: "agent-announced", announcement: { v: 1, ...identity, idleSince, holding } };
  }

  #from({ agent, chain, job, attempt }: { agent: AgentId; chain: ChainId; job: JobName; attempt: number }) {
    const { boot } = identityNumber(this.#numbers.get(agent) ?? 0);
    return { agent, boot, chain, job, attempt, answerTo: 1 };
  }
}

/** What the chains of a day have taught. */
function learned(at: number): Knowledge {
  const newest: Chain[] = Array.from({ length: configurations }, (_, age) => endedChain(age, at));
  const durations = newest.flatMap((chain) => learnFrom(undefined, chain) ?? []);
  const builds = newest.flatMap((chain) => buildRecordOf(chain) ?? []);
  return {
    ...noKnowledge,
    durations: new Map(durations.map((record) => [record.configuration, record])),
    builds: new Map(builds.map((record) => [record.key, record])),
  };
}
