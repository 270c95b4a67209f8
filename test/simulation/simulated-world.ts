/** What every part of the simulated farm is given: time, chance, the network, the server, and somebody who watches. */
import type { AdminAnswer } from "#protocol/admin.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Dispatch } from "#protocol/messages.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { transitionAll } from "#coordinator/core/transition.ts";
import type { SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import type { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import type { SimulatedServer } from "#test/simulation/simulated-server.ts";
import type { SimulatedTime } from "#test/simulation/simulated-time.ts";

export type Decide = typeof transitionAll;

/** An attempt as it is named in results and sessions. */
export interface AttemptName {
  readonly chain: ChainId;
  readonly job: JobName;
  readonly attempt: number;
}

export function nameOfAttempt({ chain, job, attempt }: AttemptName): string {
  return `${chain}.${job}.${attempt}`;
}

/** Told of everything that the promises of the farm speak of. */
export interface Watcher {
  /** A step that changes chains was decided; it may still fail to be committed. */
  decided(farm: Farm): void;
  /** A commit of several records failed: some of them may have been written. */
  commitFailed(): void;
  /** The user asks for these chains with one request. */
  asked(chains: readonly ChainId[]): void;
  /** The coordinator answers a request of the user. */
  answered(answer: AdminAnswer, asked: readonly ChainId[]): void;
  /** A person has said what an upload left on its device, and the coordinator answers. */
  settled(chain: ChainId, isRunning: boolean, answer: AdminAnswer): void;
  began(process: SimulatedProcess, dispatch: Dispatch): void;
  /** The work of an attempt is over; a process that dies does not say so. */
  ended(attempt: AttemptName): void;
  /** A result is on disk. */
  kept(process: SimulatedProcess, attempt: AttemptName, result: JobResult): void;
  /** The coordinator answers a report. */
  noted(agent: string, attempt: AttemptName): void;
  /** An agent is about to say what it holds. */
  stated(process: SimulatedProcess): void;
  /** A coordinator's process ended by an error. */
  died(coordinator: string, error: unknown): void;
}

export interface SimulatedWorld {
  readonly time: SimulatedTime;
  readonly random: SimulatedRandom;
  readonly network: SimulatedNetwork;
  readonly server: SimulatedServer;
  readonly watcher: Watcher;
  /** Wall clock of the coordinator's machine, ms since 1970; jumps. */
  wallClock(): number;
  readonly trace: (line: string) => void;
}
