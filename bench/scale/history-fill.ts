/** A farm that has worked for months: its history, and what it has learned from the newest of that. */
import { systemClock } from "#actor/clock.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { connect } from "#bus/connection.ts";
import { Memory } from "#coordinator/memory.ts";
import { configurations, endedChain } from "#bench/scale/ended-chain.ts";

/** Of one write. */
const chunk = 1_000;

/** Writes the history oldest first, as it came about. @throws UnavailableError */
export async function fillHistory(
  url: string,
  chains: number,
  signal: AbortSignal,
  progress: (line: string) => void,
): Promise<void> {
  const connection = await connect(url, "history");
  try {
    const ports = coordinatorPorts(connection);
    await ports.prepare();
    const at = Date.now();
    for (let age = chains - 1; age >= 0; age -= chunk) {
      signal.throwIfAborted();
      const ended = Array.from({ length: Math.min(chunk, age + 1) }, (_, index) => endedChain(age - index, at));
      await ports.history.putAll(new Map(ended.map((chain) => [chain.id, chain])));
      const done = chains - 1 - age + ended.length;
      if (done % 20_000 === 0) progress(`history: ${done} chains`);
    }
    // The newest chain of each configuration: builds are remembered for a day, durations for ever.
    const newest = Array.from({ length: Math.min(configurations, chains) }, (_, age) =>
      endedChain(age, at),
    ).toReversed();
    await new Memory(ports, systemClock).learn(newest);
  } finally {
    await connection.close();
  }
}
