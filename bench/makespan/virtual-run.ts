/** A run in virtual time: the production core, and agents that take no time but that of their jobs. */
import type { ChainId } from "#protocol/ids.ts";
import { type AgentId, type Configuration, type JobName } from "#protocol/ids.ts";
import type { Announcement, HeldJob, WarmTree } from "#protocol/agent.ts";
import { InvariantError } from "#protocol/errors.ts";
import type { JobResult } from "#protocol/job.ts";
import type { FarmEffect } from "#coordinator/core/effects.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import type { PlacementRule } from "#coordinator/core/placement.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import { durationsOf, identityOf, manifestOf, requestsOf, treeOf, treesAt } from "#bench/makespan/requests.ts";
import type { Device, Workload } from "#bench/makespan/workload.ts";

export interface RunResult {
  readonly makespanMs: number;
  /** Mean over the chains, from the request to the end of the flash. */
  readonly meanEndMs: number;
  readonly coldBuilds: number;
}

type Dispatch = Extract<FarmEffect, { kind: "dispatch" }>;

const startAt = Date.UTC(2026, 0, 1);

/** @param isKnown whether the farm has learned how long its jobs take */
export function runVirtually(workload: Workload, rule: PlacementRule, isKnown = true): RunResult {
  const run = new VirtualRun(workload, rule, isKnown);
  return run.toTheEnd();
}

class VirtualRun {
  readonly #workload: Workload;
  readonly #rule: PlacementRule;
  readonly #agents = new Map<AgentId, VirtualAgent>();
  readonly #devices: ReadonlyMap<Configuration, Device>;
  readonly #ends: { readonly at: number; readonly dispatch: Dispatch; readonly result: JobResult }[] = [];
  readonly #flashedAt: number[] = [];
  #farm: Farm;
  #now = startAt;
  #coldBuilds = 0;

  constructor(workload: Workload, rule: PlacementRule, isKnown: boolean) {
    this.#workload = workload;
    this.#rule = rule;
    const durations = isKnown ? durationsOf(workload, 1) : noKnowledge.durations;
    this.#farm = { ...emptyFarm, knowledge: { ...noKnowledge, durations } };
    this.#devices = new Map(workload.devices.map((device) => [device.configuration, device]));
    for (const agent of workload.builders) {
      this.#agents.set(agent, new VirtualAgent(identityOf(agent, "compile", []), treesAt(workload, agent)));
    }
    for (const agent of workload.uploaders)
      this.#agents.set(agent, new VirtualAgent(identityOf(agent, "upload", []), []));
  }

  toTheEnd(): RunResult {
    for (const agent of this.#agents.values()) this.#say(agent);
    this.#send({ kind: "chains-submitted", chains: requestsOf(this.#workload, startAt), answerTo: 0 });
    for (;;) {
      this.#ends.sort((a, b) => b.at - a.at);
      const end = this.#ends.pop();
      if (end === undefined) break;
      this.#now = end.at;
      this.#end(end.dispatch, end.result);
    }
    const { length } = this.#flashedAt;
    if (length !== this.#workload.devices.length) {
      throw new InvariantError("run-stuck", `${length} of ${this.#workload.devices.length} devices were flashed`);
    }
    return {
      makespanMs: Math.max(...this.#flashedAt) - startAt,
      meanEndMs: this.#flashedAt.reduce((sum, at) => sum + at - startAt, 0) / length,
      coldBuilds: this.#coldBuilds,
    };
  }

  #send(event: FarmEvent): void {
    const { farm, effects } = transitionAll(this.#farm, [event], this.#now, this.#rule);
    this.#farm = farm;
    for (const effect of effects) if (effect.kind === "dispatch") this.#begin(effect);
  }

  #say(agent: VirtualAgent): void {
    this.#send({ kind: "agent-announced", announcement: agent.statement(this.#now) });
  }

  #begin(dispatch: Dispatch): void {
    const agent = this.#agentOf(dispatch.agent);
    const device = this.#deviceOf(dispatch.chain);
    agent.take(dispatch);
    const isWarm = dispatch.job === "compile" && agent.hasTree(device.configuration);
    if (dispatch.job === "compile" && !isWarm) this.#coldBuilds += 1;
    const ms = dispatch.job === "upload" ? device.flashMs : isWarm ? device.warmMs : device.coldMs;
    const result: JobResult =
      dispatch.job === "upload"
        ? { kind: "flashed", level: "committed", wrote: true, flashMs: ms }
        : { kind: "built", manifest: manifestOf(device.configuration), buildMs: ms, isWarm };
    this.#ends.push({ at: this.#now + ms, dispatch, result });
    this.#send({ kind: "job-claimed", ...from(dispatch) });
    this.#say(agent);
  }

  #end(dispatch: Dispatch, result: JobResult): void {
    const agent = this.#agentOf(dispatch.agent);
    agent.give(dispatch, this.#now);
    if (result.kind === "built") agent.addTree(this.#deviceOf(dispatch.chain).configuration);
    else this.#flashedAt.push(this.#now);
    this.#send({ kind: "job-reported", result, ...from(dispatch) });
    this.#say(agent);
  }

  #agentOf(id: AgentId): VirtualAgent {
    const agent = this.#agents.get(id);
    if (agent === undefined) throw new InvariantError("foreign-agent", `${id} is not of this run`);
    return agent;
  }

  #deviceOf(id: ChainId): Device {
    const configuration = this.#farm.chains.get(id)?.configuration;
    const device = configuration === undefined ? undefined : this.#devices.get(configuration);
    if (device === undefined) throw new InvariantError("foreign-chain", `chain ${id} is not of this run`);
    return device;
  }
}

function from({ agent, chain, job, attempt }: Dispatch) {
  return { agent, boot: identityOf(agent, "compile", []).boot, chain, job, attempt, answerTo: 0 };
}

/** What an agent says of itself as it works. */
class VirtualAgent {
  readonly #identity: ReturnType<typeof identityOf>;
  readonly #holding = new Map<string, HeldJob>();
  #trees: readonly WarmTree[];
  #idleSince: number | null = startAt;

  constructor(identity: ReturnType<typeof identityOf>, trees: readonly WarmTree[]) {
    this.#identity = identity;
    this.#trees = trees;
  }

  take({ chain, job, attempt }: { chain: ChainId; job: JobName; attempt: number }): void {
    this.#holding.set(`${chain}.${job}`, { chain, job, attempt });
    if (this.#holding.size >= this.#identity.slots) this.#idleSince = null;
  }

  give({ chain, job }: { chain: ChainId; job: JobName }, at: number): void {
    this.#holding.delete(`${chain}.${job}`);
    this.#idleSince ??= at;
  }

  hasTree(configuration: Configuration): boolean {
    return this.#trees.some((tree) => tree.configuration === configuration);
  }

  addTree(configuration: Configuration): void {
    if (!this.hasTree(configuration)) this.#trees = [...this.#trees, treeOf(configuration)];
  }

  statement(at: number): Announcement {
    const { compile, ...identity } = this.#identity;
    return {
      v: 1,
      ...identity,
      ...(compile === undefined ? {} : { compile: { ...compile, warm: [...this.#trees] } }),
      idleSince: this.#idleSince ?? (this.#holding.size < identity.slots ? at : null),
      holding: [...this.#holding.values()],
    };
  }
}
