/**
 * What the farm has promised, known from its answers alone, and whether it keeps it.
 *
 * 1. A flash claim is granted once an upload, the same attempt asking again excepted, and never while another flash of the device
 *    is open.
 * 2. None is granted for an upload that was answered as cancelled or superseded, and none that was granted is answered so.
 * 3. What was accepted is live or in the history.
 * 4. The records decode, keep the farm's invariants, and are what the coordinator answers.
 * 5. A job that has ended never changes, except that a person settles what is unknown; it ends as one of its attempts did, and an
 *    attempt whose report was noted is in nobody's hands.
 * 6. When the faults stop, every chain ends.
 */
import { isDeepStrictEqual } from "node:util";
import type { AdminAnswer, ChainRequest } from "#protocol/admin.ts";
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import { type AgentId, type BootId, type ChainId, type JobName, jobRef } from "#protocol/ids.ts";
import { isTerminal, type Job, type JobResult } from "#protocol/job.ts";
import { deviceKeys } from "#coordinator/core/conflicts.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import type { Sight } from "#test/support/commanded-farm.ts";
import type { WatchedCoordinator } from "#test/support/watched-coordinator.ts";

/** Who asks: an attempt in one life of one agent. */
export interface Asker {
  readonly agent: AgentId;
  readonly boot: BootId;
  readonly chain: ChainId;
  readonly job: JobName;
  readonly attempt: number;
}

export class FarmPromises {
  readonly accepted = new Set<ChainId>();
  /** What was done and answered, in order. */
  readonly trace: string[] = [];
  readonly #requests = new Map<ChainId, ChainRequest>();
  readonly #stopped = new Set<ChainId>();
  readonly #granted = new Map<ChainId, Asker>();
  readonly #open = new Map<ChainId, Asker>();
  readonly #results = new Map<string, JobResult[]>();
  readonly #noted = new Set<string>();
  readonly #ended = new Map<string, { readonly chain: ChainId; readonly job: Job }>();
  readonly #settledByPerson = new Set<ChainId>();
  readonly #archived = new Set<ChainId>();

  note(line: string): void {
    this.trace.push(line);
  }

  /** Chains that may be accepted whatever becomes of the answer. */
  requested(chains: readonly ChainRequest[]): void {
    for (const chain of chains) this.#requests.set(chain.id, chain);
  }

  get requests(): readonly ChainRequest[] {
    return [...this.#requests.values()];
  }

  answered(answer: AdminAnswer): void {
    if (answer.kind === "accepted") {
      this.note(`  accepted ${answer.chains.join(" ")}; superseded ${answer.superseded.join(" ")}`);
      for (const id of answer.chains) this.accepted.add(id);
      for (const id of answer.superseded) this.#stop(id);
    } else if (answer.kind === "cancelling") {
      for (const { chain, jobs, tooLate } of answer.chains) {
        this.note(`  cancelling ${chain}: ${jobs.join(" ")}; too late ${tooLate.join(" ")}`);
        if (jobs.length > 0 && !tooLate.includes("upload")) this.#stop(chain);
      }
    } else this.note(`  ${answer.kind === "refused" ? `refused ${answer.code}` : answer.kind}`);
  }

  #stop(chain: ChainId): void {
    const granted = this.#granted.get(chain);
    if (granted !== undefined)
      this.#violate(2, `${chain} was answered as cancelled after ${describe(granted)} may flash`);
    this.#stopped.add(chain);
  }

  /** A flash claim was answered with `go`. `isAlive`: the process that asked is there and flashes now. */
  granted(asker: Asker, isAlive: boolean): void {
    const { chain } = asker;
    const before = this.#granted.get(chain);
    if (before !== undefined && !isDeepStrictEqual(before, asker)) {
      this.#violate(1, `${describe(asker)} may flash, and so may ${describe(before)}`);
    }
    if (before === undefined && this.#stopped.has(chain)) {
      this.#violate(2, `${describe(asker)} may flash, though that was answered as cancelled`);
    }
    const keys = this.#keysOf(chain);
    for (const [other, flasher] of this.#open) {
      if (other !== chain && this.#keysOf(other).some((key) => keys.includes(key))) {
        this.#violate(1, `${describe(asker)} may flash ${keys.join(" ")}, which ${describe(flasher)} flashes`);
      }
    }
    this.#granted.set(chain, asker);
    if (isAlive) this.#open.set(chain, asker);
  }

  #keysOf(chain: ChainId): readonly string[] {
    const target = this.#requests.get(chain)?.upload?.target;
    return target === undefined ? [] : deviceKeys(target);
  }

  /** The flash of this chain, or all of an agent, have ended, however they did. */
  closed(which: { readonly chain: ChainId } | { readonly agent: AgentId }): void {
    for (const [chain, { agent }] of this.#open) {
      if ("chain" in which ? which.chain === chain : which.agent === agent) this.#open.delete(chain);
    }
  }

  /** A report is under way; it may be taken or not. */
  reported(asker: Asker, result: JobResult): void {
    const key = attemptOf(asker);
    this.#results.set(key, [...(this.#results.get(key) ?? []), result]);
  }

  /** A report of an attempt that this agent was given was answered. */
  noted(asker: Asker): void {
    this.#noted.add(attemptOf(asker));
  }

  /** A person has said what an unknown upload left; the answer may have been thrown away. */
  settled(chain: ChainId): void {
    this.#settledByPerson.add(chain);
  }

  /** What a coordinator did after another one had taken over. */
  deposed({ lateCommits, handedAnswers }: Pick<WatchedCoordinator, "lateCommits" | "handedAnswers">): void {
    if (lateCommits.includes(true)) this.#violate(3, "a coordinator that had been replaced has written");
    if (handedAnswers.length > 0)
      this.#violate(3, `one that had been replaced answered ${JSON.stringify(handedAnswers)}`);
  }

  /** Chains whose upload is known to have ended as unknown. */
  get unknown(): readonly ChainId[] {
    return [...this.#ended.values()].filter(({ job }) => job.state === "unknown").map(({ chain }) => chain);
  }

  /** Accepted chains that are neither live nor were seen in the history. */
  missing({ chains }: Farm): readonly ChainId[] {
    return [...this.accepted].filter((id) => !chains.has(id) && !this.#archived.has(id));
  }

  /** After every command. `ended`: what the history has of what is missing. */
  check({ farm, difference, damaged }: Sight, ended: ReadonlyMap<ChainId, Chain>, mayBeOverbooked: boolean): void {
    for (const id of this.missing(farm)) {
      if (!ended.has(id)) this.#violate(3, `${id} was accepted, and is neither live nor in the history`);
      this.#archived.add(id);
    }
    if (damaged.length > 0) this.#violate(4, `${damaged.join(", ")} cannot be decoded`);
    if (difference !== undefined)
      this.#violate(4, `what the coordinator answers is not what is recorded: ${difference}`);
    for (const sentence of checkFarm(farm)) {
      if (!mayBeOverbooked || !sentence.startsWith("6:")) this.#violate(4, sentence);
    }
    for (const chain of [...farm.chains.values(), ...ended.values()]) this.#checkJobs(chain);
  }

  /** At the end: nothing is live any more. `ended`: what the history has of everything accepted. */
  finish(ended: ReadonlyMap<ChainId, Chain>): void {
    for (const id of this.accepted) {
      const chain = ended.get(id);
      if (chain === undefined) this.#violate(3, `${id} was accepted and is lost`);
      else if (!isFinished(chain)) this.#violate(6, `${id} is in the history and has not ended`);
      else this.#checkJobs(chain);
    }
  }

  neverEnded({ chains }: Farm): void {
    const states = [...chains.values()].flatMap((chain) =>
      jobsOf(chain).map((job) => `${jobRef(chain.id, job.name)} is ${job.state} at ${job.assigned?.agent ?? "nobody"}`),
    );
    this.#violate(6, `some chains never end: ${states.join(", ")}`);
  }

  #checkJobs(chain: Chain): void {
    for (const job of jobsOf(chain)) {
      const ref = jobRef(chain.id, job.name);
      const attempt = `${job.assigned?.agent}: ${ref}.${job.attempt}`;
      const before = this.#ended.get(ref)?.job;
      const isSettled = before?.state === "unknown" && this.#settledByPerson.has(chain.id) && job.state !== "unknown";
      if (before !== undefined && !isSettled && !isDeepStrictEqual(before, job)) {
        this.#violate(5, `${ref} had ended as ${JSON.stringify(before)} and is ${JSON.stringify(job)}`);
      }
      if (isInHand(job.state) && this.#noted.has(attempt))
        this.#violate(5, `${attempt} is ${job.state} after its report`);
      if (
        this.#stopped.has(chain.id) &&
        job.name === "upload" &&
        !isTerminal(job.state) &&
        job.state !== "cancelling"
      ) {
        this.#violate(2, `${ref} is ${job.state} after its cancel was answered`);
      }
      if (!isTerminal(job.state)) continue;
      const isTold = job.outcome?.kind === "flashed" && job.outcome.level === "told";
      if (job.state === "succeeded" && !isTold && !this.#results.get(attempt)?.some(isSame(job.outcome))) {
        this.#violate(5, `${ref} succeeded with a result that attempt ${job.attempt} did not have`);
      }
      this.#ended.set(ref, { chain: chain.id, job });
    }
  }

  /** @throws Error always: with everything that was done before. */
  #violate(promise: number, sentence: string): void {
    throw new Error([`promise ${promise} is broken: ${sentence}`, ...this.trace].join("\n"));
  }
}

function isSame(outcome: unknown): (result: JobResult) => boolean {
  return (result) => isDeepStrictEqual(result, outcome);
}

function attemptOf({ agent, chain, job, attempt }: Asker): string {
  return `${agent}: ${jobRef(chain, job)}.${attempt}`;
}

function describe({ agent, boot, chain, job, attempt }: Asker): string {
  return `attempt ${attempt} of ${jobRef(chain, job)} at ${agent}/${boot}`;
}
