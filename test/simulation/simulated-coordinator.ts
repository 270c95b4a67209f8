/**
 * The shell around the real core, by the rules of `coordinator/coordinator.ts`, over the simulated server.
 *
 * 1. Nothing is answered, dispatched or stopped before the records that say so are committed.
 * 2. After a commit that did not succeed for certain, the farm is rebuilt from the records before anything else happens.
 * 3. What is under way to the server when the coordinator dies may still land.
 */
import type { AdminAnswer, ChainRequest } from "#protocol/admin.ts";
import type { Announcement } from "#protocol/agent.ts";
import { type Chain, jobOf } from "#protocol/chain.ts";
import { AgentId, type ChainId, type JobName } from "#protocol/ids.ts";
import type { Ask, AskAnswer, Dispatch, StopOrder } from "#protocol/messages.ts";
import { dispatchId } from "#protocol/names.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import { type FarmEffect, impliedEffects } from "#coordinator/core/effects.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import type { Transition } from "#coordinator/core/transition.ts";
import { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import { SimulatedWatch } from "#test/simulation/simulated-watch.ts";
import type { Changes, CommitOutcome } from "#test/simulation/simulated-server.ts";
import type { Decide, ShellFaults, SimulatedWorld } from "#test/simulation/simulated-world.ts";

/** Half as often as in life: twice as many seeds in the same time. */
const beatMs = 1_000;
const commitTimeoutMs = 5_000;
const groupMax = 500;

const eventKind = { claim: "job-claimed", "flash-claim": "flash-claimed" } as const;

/** How stop orders reach the agents. */
export type StopPort = (agent: AgentId, order: StopOrder) => void;

export class SimulatedCoordinator {
  readonly process: SimulatedProcess;
  readonly #world: SimulatedWorld;
  readonly #decide: Decide;
  readonly #shellFaults: ShellFaults;
  readonly #stop: StopPort;
  readonly #watch: SimulatedWatch;
  /** Tells the writes of this coordinator from those of its predecessors. */
  readonly #name: string;
  readonly #mailbox: FarmEvent[] = [];
  readonly #answers = new Map<number, (body: AskAnswer | AdminAnswer) => void>();
  #farm: Farm = emptyFarm;
  #lastSequence = 0;
  #nextAnswer = 0;
  #commits = 0;
  /** False while it loads, commits or waits for the server. */
  #isIdle = false;
  #isWoken = false;
  #hasFailed = false;

  constructor(world: SimulatedWorld, decide: Decide, shellFaults: ShellFaults, stop: StopPort) {
    this.#world = world;
    this.#decide = decide;
    this.#shellFaults = shellFaults;
    this.#stop = stop;
    this.#name = `coordinator of ${world.time.now} ms`;
    this.process = new SimulatedProcess(world.time, "coordinator", () => world.wallClock());
    this.#watch = new SimulatedWatch(this.process.clock, world.server.statements(), (event) => this.#post(event));
    this.#rebuild();
    this.#beat();
  }

  get farm(): Farm {
    return this.#farm;
  }

  hear(announcement: Announcement): void {
    this.process.deliver(() => this.#watch.hear(announcement));
  }

  /** The connection is back after the server was away: its lanes may be empty. */
  reconnected(): void {
    this.#watch.restart(this.#world.server.statements());
    if (this.#isIdle) this.#rebuild();
  }

  ask(agent: string, ask: Ask, answer: (body: AskAnswer) => void): void {
    const { boot, chain, job, attempt } = ask;
    const from = { agent: AgentId.parse(agent), boot, chain, job, attempt, answerTo: this.#expect(answer) };
    this.#post(
      ask.kind === "report"
        ? { kind: "job-reported", result: ask.result, ...from }
        : { kind: eventKind[ask.kind], ...from },
    );
  }

  submit(chains: readonly ChainRequest[], answer: (body: AdminAnswer) => void): void {
    const ids = chains.map((chain) => chain.id);
    const isKnown = (id: ChainId) => this.#farm.chains.has(id) || this.#world.server.history.has(id);
    if (this.#shellFaults.forgetsHistory !== true && ids.every(isKnown)) {
      this.#give({ kind: "accepted", chains: ids, superseded: [] }, ids, answer);
      return;
    }
    const answerTo = this.#expect((body) => this.#give(body as AdminAnswer, ids, answer));
    this.#post({ kind: "chains-submitted", chains, answerTo });
  }

  cancel(chain: ChainId, jobs: readonly JobName[] | undefined, answer: (body: AdminAnswer) => void): void {
    const answerTo = this.#expect((body) => this.#give(body as AdminAnswer, [chain], answer));
    this.#post({ kind: "cancel-asked", chain, ...(jobs === undefined ? {} : { jobs }), answerTo });
  }

  #give(body: AdminAnswer, asked: readonly ChainId[], answer: (body: AdminAnswer) => void): void {
    this.#world.watcher.answered(body, asked);
    answer(body);
  }

  #expect(answer: (body: never) => void): number {
    this.#nextAnswer += 1;
    this.#answers.set(this.#nextAnswer, answer as (body: AskAnswer | AdminAnswer) => void);
    return this.#nextAnswer;
  }

  #post(event: FarmEvent): void {
    this.#mailbox.push(event);
    this.#wake();
  }

  #wake(): void {
    if (!this.#isIdle || this.#isWoken || this.#mailbox.length === 0) return;
    this.#isWoken = true;
    // A few ms in which more may come, so that events of several askers meet in one group.
    this.process.after(this.#world.random.between(0, 3), () => {
      this.#isWoken = false;
      if (this.#isIdle) this.#handle(this.#mailbox.splice(0, groupMax));
    });
  }

  #handle(events: readonly FarmEvent[]): void {
    const step = this.#decide(this.#farm, events, this.process.clock.now());
    this.#world.watcher.decided(step.farm);
    if (this.#shellFaults.effectsBeforeCommit === true) this.#run(step.farm, step.effects);
    if (step.changed.size === 0) {
      this.#adopt(step);
      return;
    }
    this.#isIdle = false;
    this.#commit(step.changed, step.isAtomic && this.#shellFaults.ignoresAtomic !== true, (outcome) => {
      this.#isIdle = true;
      if (outcome?.ok !== true) {
        this.#world.watcher.commitFailed();
        this.#world.trace(outcome === undefined ? "commit not answered" : "commit refused");
        this.#rebuild();
        return;
      }
      this.#lastSequence = outcome.sequence;
      this.#adopt(step);
    });
  }

  #adopt(step: Transition): void {
    this.#farm = step.farm;
    if (this.#shellFaults.effectsBeforeCommit !== true) this.#run(step.farm, step.effects);
    this.#wake();
  }

  /**
   * Atomic changes go as one message; others as one each. The first expects the last sequence, each other one the write before
   * it by name: expecting only a sequence, a writer that is behind would land its second write after its first was refused.
   * Undefined: no answer came.
   */
  #commit(changes: Changes, isAtomic: boolean, done: (outcome: CommitOutcome | undefined) => void): void {
    const { network, server } = this.#world;
    const groups = isAtomic ? [changes] : [...changes].map((entry): Changes => new Map([entry]));
    const first = this.#lastSequence;
    let unanswered = groups.length;
    let isOver = false;
    const end = (outcome: CommitOutcome | undefined) => {
      if (!isOver) done(outcome);
      isOver = true;
    };
    this.#commits += 1;
    const nameOf = (index: number) => `${this.#name} ${this.#commits}.${index}`;
    for (const [index, group] of groups.entries()) {
      const bySequence = index === 0 || this.#shellFaults.pipelinesBySequence === true;
      const expected = bySequence ? first + index : nameOf(index - 1);
      const name = nameOf(index);
      let isAnswered = false;
      network.sendInOrder(this.#name, "coordinator", "server", () => {
        const outcome = server.write(group, name, expected);
        network.send("server", "coordinator", () => {
          this.process.deliver(() => {
            if (isAnswered) return;
            isAnswered = true;
            unanswered -= 1;
            if (!outcome.ok) end(outcome);
            else if (unanswered === 0) end({ ok: true, sequence: first + changes.size });
          });
        });
      });
    }
    this.process.after(commitTimeoutMs, () => end(undefined));
  }

  #rebuild(): void {
    this.#isIdle = false;
    const { server, network, random } = this.#world;
    this.process.after(random.between(5, 30), () => {
      if (network.isCut("coordinator")) {
        this.process.after(200, () => this.#rebuild());
        return;
      }
      const chains = server.load();
      this.#answers.clear();
      this.#farm = { agents: this.#farm.agents, chains: new Map(chains.map((chain) => [chain.id, chain])) };
      this.#lastSequence = server.sequence;
      this.#world.trace(`rebuilt with ${chains.length} live chains`);
      // The group that was lost may have held statements and departures of agents.
      if (this.#shellFaults.keepsHeardAfterRebuild !== true) this.#watch.forget();
      this.#isIdle = true;
      if (this.#shellFaults.skipsImpliedEffects !== true) this.#run(this.#farm, impliedEffects(this.#farm));
      this.#wake();
    });
  }

  #beat(): void {
    this.process.after(beatMs, () => {
      this.#watch.check();
      this.#post({ kind: "time-passed" });
      if (this.#hasFailed && this.#isIdle) {
        this.#hasFailed = false;
        this.#run(this.#farm, impliedEffects(this.#farm));
      }
      this.#beat();
    });
  }

  #run(farm: Farm, effects: readonly FarmEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case "answer":
          this.#answers.get(effect.to)?.(effect.body);
          this.#answers.delete(effect.to);
          break;
        case "dispatch":
          this.#dispatch(farm, effect);
          break;
        case "stop":
          this.#world.trace(`stop ${effect.agent} ${effect.chain}.${effect.job}.${effect.attempt}`);
          this.#stop(effect.agent, { v: 1, chain: effect.chain, job: effect.job, attempt: effect.attempt });
          break;
        case "archive":
          this.#archive(farm.chains.get(effect.chain));
          break;
      }
    }
  }

  /** Runs at the server; what is not answered is noted and done again at a later beat. */
  #request(atServer: () => void, done: () => void): void {
    const { network } = this.#world;
    let isAnswered = false;
    network.send("coordinator", "server", () => {
      atServer();
      network.send("server", "coordinator", () => {
        this.process.deliver(() => {
          if (!isAnswered) done();
          isAnswered = true;
        });
      });
    });
    this.process.after(3_000, () => {
      if (!isAnswered) this.#hasFailed = true;
      isAnswered = true;
    });
  }

  #dispatch(farm: Farm, { agent, chain, job, attempt }: Extract<FarmEffect, { kind: "dispatch" }>): void {
    const record = farm.chains.get(chain);
    const dispatch = record === undefined ? undefined : dispatchOf(record, job, attempt);
    if (dispatch === undefined) return;
    this.#world.trace(`dispatch ${chain}.${job}.${attempt} to ${agent}`);
    this.#request(
      () => this.#world.server.publish(agent, dispatchId(chain, job, attempt), dispatch),
      () => {},
    );
  }

  #archive(chain: Chain | undefined): void {
    if (chain === undefined) return;
    this.#request(
      () => this.#world.server.history.set(chain.id, chain),
      () => this.#post({ kind: "chain-archived", chain: chain.id }),
    );
  }
}

/** The lane message of an assignment, or undefined when the record has moved on. */
function dispatchOf(chain: Chain, name: JobName, attempt: number): Dispatch | undefined {
  const job = jobOf(chain, name);
  if (job === undefined || job.state !== "dispatched" || job.attempt !== attempt) return undefined;
  const identity = { v: 1 as const, chain: chain.id, configuration: chain.configuration, attempt };
  if (job.lane === "compile") return { ...identity, job: "compile", spec: job.spec };
  const manifest = manifestOf(chain);
  return manifest === undefined
    ? undefined
    : { ...identity, job: "upload", mode: job.mode, target: job.spec.target, manifest };
}
