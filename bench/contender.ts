/** What takes part in the benchmark: two lanes with no-op handlers, and a requester that asks for chains. */

/**
 * When a written message is on the disk. `always`: before the answer that says so. `1s`: at most about a second later, so that a
 * power cut loses what was answered in that second.
 */
export const durabilities = ["always", "1s"] as const;
export type Durability = (typeof durabilities)[number];

/**
 * Called by the lanes of a contender, each exactly once a chain, in this order. `chain` is the number that `request` was given.
 * The calls are what is measured: nothing may stand between a handler's first statement and `compileStarted` or
 * `uploadStarted`, and none of the work that makes the dependent job run may come before `compileDone`.
 */
export interface ChainMarks {
  readonly compileStarted: (chain: number) => void;
  readonly compileDone: (chain: number) => void;
  readonly uploadStarted: (chain: number) => void;
  /** The contender will not hand out this chain again: its second job is acknowledged or recorded as done. */
  readonly chainFinished: (chain: number) => void;
}

/** Both lanes with idle workers that wait, and a way to ask for chains. */
export interface Lanes {
  /**
   * Asks for chains, by the contender's fastest way for so many at once. Resolves when all of them are accepted at the
   * durability that the contender was started with.
   */
  request(chains: readonly number[]): Promise<void>;
  /** Ends the workers; what is left of the run disturbs no later one. */
  close(): Promise<void>;
}

export interface Contender {
  /** As it stands in the tables. */
  readonly name: string;
  /** Of several contenders of one family, the better figure counts as the family's. */
  readonly family: "flashyard" | "raw JetStream" | "BullMQ";
  /**
   * Starts everything but the workers, with its data in the empty folder `workFolder`.
   * @returns what runs, with versions, for the machine's line.
   * @throws UsageError when a program is missing here; UnavailableError when one does not start.
   */
  start(durability: Durability, workFolder: string): Promise<string>;
  /** `slots` jobs of each lane run at a time, each worker of a slot holds one job; called one after another, between `start` and `stop`. */
  open(slots: number, marks: ChainMarks): Promise<Lanes>;
  /** Ends what `start` began; also when that failed or was never called. */
  stop(): Promise<void>;
}
