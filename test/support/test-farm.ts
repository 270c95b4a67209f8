/**
 * A farm in the hands of a test: feeds events to the real transition, keeps the newest farm and every effect, and checks the
 * invariants after each step. Reads like the story that a rule tells.
 */
import type { AdminAnswer, CancelVerdict, ChainRequest } from "#protocol/admin.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { Chain } from "#protocol/chain.ts";
import type { BootId, ChainId, JobName } from "#protocol/ids.ts";
import type { Job, UploadJob } from "#protocol/job.ts";
import type { JobResult } from "#protocol/job.ts";
import type { AskAnswer } from "#protocol/messages.ts";
import type { FarmEffect } from "#coordinator/core/effects.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import { type Transition, transition } from "#coordinator/core/transition.ts";
import {
  agentNamed,
  bootNumber,
  built,
  chainNumber,
  configurationNamed,
  jobIn,
  startAt,
  type StatementOptions,
  statementOf,
} from "#test/support/farm-builders.ts";

export type EffectOf<K extends FarmEffect["kind"]> = Extract<FarmEffect, { kind: K }>;

/** A claim or report in a test: by default it comes from the attempt that the record holds, in the boot that it holds. */
export interface FromOptions {
  readonly agent?: string;
  readonly boot?: number;
  readonly attempt?: number;
}

export class TestFarm {
  farm: Farm = emptyFarm;
  at = startAt;
  /** Of the newest step. */
  last: Transition = { farm: emptyFarm, effects: [], changed: new Map(), isAtomic: false };
  #answerTo = 0;

  /** One event at the present instant. Throws when it breaks an invariant. */
  send(event: FarmEvent): Transition {
    this.last = transition(this.farm, event, this.at);
    this.farm = this.last.farm;
    const broken = checkFarm(this.farm);
    if (broken.length > 0) throw new Error(`${event.kind} broke the farm:\n${broken.join("\n")}`);
    return this.last;
  }

  /** Lets time go on, and the farm notice it. */
  pass(ms: number): Transition {
    this.at += ms;
    return this.send({ kind: "time-passed" });
  }

  submit(...chains: readonly ChainRequest[]): AdminAnswer {
    this.send({ kind: "chains-submitted", chains, answerTo: this.#next() });
    return this.#answer() as AdminAnswer;
  }

  /** The verdict on the chain; one without jobs when there was nothing to cancel. */
  cancel(n: number, ...jobs: readonly JobName[]): Pick<CancelVerdict, "jobs" | "tooLate"> {
    const of = { kind: "chain" as const, chain: chainNumber(n), ...(jobs.length === 0 ? {} : { jobs }) };
    this.send({ kind: "cancel-asked", of, answerTo: this.#next() });
    const answer = this.#answer() as Extract<AdminAnswer, { kind: "cancelling" }>;
    const { jobs: cancelled = [], tooLate = [] } = answer.chains[0] ?? {};
    return { jobs: cancelled, tooLate };
  }

  cancelConfiguration(name: string): AdminAnswer {
    const of = { kind: "configuration" as const, configuration: configurationNamed(name) };
    this.send({ kind: "cancel-asked", of, answerTo: this.#next() });
    return this.#answer() as AdminAnswer;
  }

  cancelAll(): AdminAnswer {
    this.send({ kind: "cancel-asked", of: { kind: "all" }, answerTo: this.#next() });
    return this.#answer() as AdminAnswer;
  }

  clean(n: number, name: string): AdminAnswer {
    const configuration = configurationNamed(name);
    this.send({ kind: "clean-asked", id: chainNumber(n), configuration, answerTo: this.#next() });
    return this.#answer() as AdminAnswer;
  }

  reset(n: number): AdminAnswer {
    this.send({ kind: "reset-asked", id: chainNumber(n), answerTo: this.#next() });
    return this.#answer() as AdminAnswer;
  }

  /** A person says what an unknown upload has left, of a record that may be in the history already. */
  resolve(chain: Chain, isRunning: boolean): AdminAnswer {
    this.send({ kind: "unknown-resolved", chain, isRunning, answerTo: this.#next() });
    return this.#answer() as AdminAnswer;
  }

  announce(announcement: Announcement): Transition {
    return this.send({ kind: "agent-announced", announcement });
  }

  compileAgent(agent: string, options: StatementOptions = {}): Transition {
    return this.announce(statementOf(agent, "compile", options));
  }

  uploadAgent(agent: string, options: StatementOptions = {}): Transition {
    return this.announce(statementOf(agent, "upload", options));
  }

  vanish(agent: string): Transition {
    return this.send({ kind: "agent-vanished", agent: agentNamed(agent) });
  }

  claim(n: number, job: JobName, from: FromOptions = {}): string {
    this.send({ kind: "job-claimed", ...this.#from(n, job, from) });
    return (this.#answer() as AskAnswer).verdict;
  }

  claimFlash(n: number, from: FromOptions = {}): string {
    this.send({ kind: "flash-claimed", ...this.#from(n, "upload", from) });
    return (this.#answer() as AskAnswer).verdict;
  }

  report(n: number, job: JobName, result: JobResult, from: FromOptions = {}): string {
    this.send({ kind: "job-reported", result, ...this.#from(n, job, from) });
    return (this.#answer() as AskAnswer).verdict;
  }

  chain(n: number): Chain {
    const chain = this.farm.chains.get(chainNumber(n));
    if (chain === undefined) throw new Error(`there is no chain ${n}`);
    return chain;
  }

  job(n: number, name: JobName): Job {
    return jobIn(this.chain(n), name);
  }

  upload(n: number): UploadJob {
    return this.job(n, "upload") as UploadJob;
  }

  /** `compile state, upload state` of a chain, as far as it has them. */
  states(n: number): string {
    const { clean, compile, upload } = this.chain(n);
    return [clean?.state, compile?.state, upload?.state].filter((state) => state !== undefined).join(", ");
  }

  /** Effects of one kind in the newest step. */
  effects<K extends FarmEffect["kind"]>(kind: K): readonly EffectOf<K>[] {
    return this.last.effects.filter((effect): effect is EffectOf<K> => effect.kind === kind);
  }

  /** Brings the upload of an install to the point at which it runs and may ask for its flash. */
  bringToUpload(n: number): void {
    this.claim(n, "compile");
    this.report(n, "compile", built(`build ${n}`));
    this.claim(n, "upload");
  }

  #from(n: number, name: JobName, from: FromOptions) {
    const chain: ChainId = chainNumber(n);
    const record = this.farm.chains.get(chain);
    const job = record === undefined ? undefined : jobIn(record, name);
    const agent = from.agent === undefined ? (job?.assigned?.agent ?? agentNamed("nobody")) : agentNamed(from.agent);
    const boot: BootId = from.boot === undefined ? (job?.assigned?.boot ?? bootNumber(1)) : bootNumber(from.boot);
    return {
      agent,
      boot,
      chain,
      job: name,
      attempt: from.attempt ?? Math.max(1, job?.attempt ?? 1),
      answerTo: this.#next(),
    };
  }

  #next(): number {
    this.#answerTo += 1;
    return this.#answerTo;
  }

  #answer(): unknown {
    const found = this.effects("answer").find((effect) => effect.to === this.#answerTo);
    if (found === undefined) throw new Error("the event was not answered");
    return found.body;
  }
}
