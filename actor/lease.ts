/**
 * Which of several processes works. `bus/coordinator-lease.ts` gives it over NATS; the simulation over a server in memory.
 *
 * 1. Between two successes of one holder nobody else has held it.
 * 2. Who does not renew loses it `leadTtlMs` after its last write at the earliest.
 * 3. What throws UnavailableError may have happened or not; asking again finds out.
 * 4. One call at a time: the caller waits for each before it makes the next.
 */
import type { LeaseHolder } from "#protocol/lease.ts";

export interface Lease {
  /** True when it is ours from now on; false when somebody else has it. @throws UnavailableError */
  take(): Promise<boolean>;
  /** False when somebody else has it, or it has expired. @throws UnavailableError */
  renew(): Promise<boolean>;
  /** Gives it up, if it is ours, so that another can take it at once. @throws UnavailableError */
  release(): Promise<void>;
  /** Undefined when nobody has it. @throws UnavailableError */
  holder(): Promise<LeaseHolder | undefined>;
}
