/** What every part of the simulated farm is given: time, chance, the network, the server, and somebody who watches. */
import type { AdminAnswer } from "#protocol/admin.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { transitionAll } from "#coordinator/core/transition.ts";
import type { SimulatedNetwork } from "#test/simulation/simulated-network.ts";
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
  began(agent: string, attempt: AttemptName): void;
  ended(agent: string, attempt: AttemptName, result: JobResult): void;
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
