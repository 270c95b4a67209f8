/** What every part of the simulated farm is given: time, chance, the network, the server, and somebody who watches. */
import type { AdminAnswer } from "#protocol/admin.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Transition } from "#coordinator/core/transition.ts";
import type { SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import type { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import type { SimulatedServer } from "#test/simulation/simulated-server.ts";
import type { SimulatedTime } from "#test/simulation/simulated-time.ts";

/** What the shell around the core does wrong, for tests that the simulation notices. */
export interface ShellFaults {
  /** Answers and dispatches before the commit. */
  readonly effectsBeforeCommit?: boolean;
  /** Writes what belongs together one by one. */
  readonly ignoresAtomic?: boolean;
  /** Lets each of several writes expect only a sequence, and not the write before it. */
  readonly pipelinesBySequence?: boolean;
  /** Takes a request again that has ended and left the live records: neither asks the history nor creates with a fence. */
  readonly forgetsHistory?: boolean;
  /** Does not hear the agents anew after a commit that failed. */
  readonly keepsHeardAfterRebuild?: boolean;
  /** Does not carry out again what the records imply. */
  readonly skipsImpliedEffects?: boolean;
}

export type Decide = (farm: Farm, events: readonly FarmEvent[], at: number) => Transition;

/** An attempt as it is named in results and sessions. */
export interface AttemptName {
  readonly chain: ChainId;
  readonly job: JobName;
  readonly attempt: number;
}

/** Told of everything that the promises of the farm speak of. */
export interface Watcher {
  /** A step was decided; the farm may still fail to be committed. */
  decided(farm: Farm): void;
  /** A commit of several records failed: some of them may have been written. */
  commitFailed(): void;
  /** The coordinator answers a request of the user. */
  answered(answer: AdminAnswer, asked: readonly ChainId[]): void;
  began(agent: string, attempt: AttemptName): void;
  ended(agent: string, attempt: AttemptName, result: JobResult): void;
}

export interface SimulatedWorld {
  readonly time: SimulatedTime;
  readonly random: SimulatedRandom;
  readonly network: SimulatedNetwork;
  readonly server: SimulatedServer;
  readonly watcher: Watcher;
  /** Wall clock of the coordinator's machine, ms since 1970; jumps. */
  wallClock(): number;
  trace(line: string): void;
}
