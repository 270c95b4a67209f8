/**
 * Judges promises 11 and 12 of the oracle, by what the agents' processes really do.
 *
 * Work of a process that was paused meanwhile, or during which the wall clock jumped, proves nothing: it stands still, is taken
 * for dead, and goes on until its agent has noticed.
 */
import { type Chain, jobOf } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { Job } from "#protocol/job.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import { type AttemptName, nameOfAttempt } from "#test/simulation/simulated-world.ts";

interface Work {
  readonly process: SimulatedProcess;
  readonly dispatch: Dispatch;
  readonly pauses: number;
  /** How far the wall clock was from the monotonic one. */
  readonly clockOffset: number;
}

export class WorkWatch {
  readonly #record: (id: ChainId) => Chain | undefined;
  readonly #violate: (promise: number, sentence: string) => void;
  readonly #working = new Map<string, Work>();
  /** Results that no coordinator has noted, by the name of their attempt, with the process that had them. */
  readonly #unnoted = new Map<string, SimulatedProcess>();

  constructor(record: (id: ChainId) => Chain | undefined, violate: (promise: number, sentence: string) => void) {
    this.#record = record;
    this.#violate = violate;
  }

  began(process: SimulatedProcess, dispatch: Dispatch): void {
    for (const { process: other, dispatch: inHand } of this.#current()) {
      if (other !== process || !isSameTree(dispatch, inHand)) continue;
      this.#violate(11, `${nameOfAttempt(dispatch)} begins at ${process.name} beside ${nameOfAttempt(inHand)}`);
    }
    const name = nameOfAttempt(dispatch);
    this.#working.set(name, { process, dispatch, pauses: process.pauses, clockOffset: offsetOf(process) });
    process.onDeath(() => this.#working.delete(name));
  }

  /** Nothing of the attempt is alive any more. */
  ended(attempt: AttemptName): void {
    this.#working.delete(nameOfAttempt(attempt));
  }

  /** A result is on the disk of the process' machine. */
  kept(process: SimulatedProcess, attempt: AttemptName): void {
    this.#unnoted.set(nameOfAttempt(attempt), process);
  }

  noted(agent: string, attempt: AttemptName): void {
    const name = nameOfAttempt(attempt);
    this.#unnoted.delete(name);
    const job = this.#inHand(attempt);
    if (job?.assigned?.agent === agent) this.#violate(12, `the result of ${name} was noted while it is ${job.state}`);
  }

  /** An agent says that it is here, and what it holds. */
  stated(process: SimulatedProcess): void {
    for (const [name, other] of this.#unnoted) {
      if (other.name !== process.name || other === process) continue;
      this.#violate(12, `${process.name} is here again without the result of ${name}`);
    }
  }

  /** A record was written that says that a job in hand was cancelled. */
  cancelled(attempt: AttemptName): void {
    const name = nameOfAttempt(attempt);
    const work = this.#working.get(name);
    if (work !== undefined && isProof(work)) {
      this.#violate(11, `${name} was cancelled while ${work.process.name} works on it`);
    }
  }

  /** Work that the records know of. */
  #current(): readonly Work[] {
    return [...this.#working.values()].filter((work) => isProof(work) && this.#inHand(work.dispatch) !== undefined);
  }

  /** The job as the live records have it, if this attempt of it is in hand. */
  #inHand({ chain, job: name, attempt }: AttemptName): Job | undefined {
    const record = this.#record(chain);
    const job = record === undefined ? undefined : jobOf(record, name);
    return job?.attempt === attempt && isInHand(job.state) ? job : undefined;
  }
}

function isProof({ process, pauses, clockOffset }: Work): boolean {
  return process.isAlive && process.pauses === pauses && offsetOf(process) === clockOffset;
}

function offsetOf({ clock }: SimulatedProcess): number {
  return clock.now() - clock.monotonic();
}

/** Whether one of them takes a tree away in which the other one builds. */
function isSameTree(one: Dispatch, other: Dispatch): boolean {
  const [clean, build] = one.job === "clean" ? [one, other] : [other, one];
  if (clean.job !== "clean" || build.job !== "compile") return false;
  return clean.trees === "all" || clean.configuration === build.configuration;
}
