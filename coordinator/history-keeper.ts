/**
 * Keeps the history within its limits, and forgets builds that are too old to be used.
 *
 * 1. A log goes before its chain, so that what is left of an interrupted round is found by the next one.
 * 2. What is live is not touched, also where its id is in the history.
 */
import type { Clock } from "#actor/clock.ts";
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { type HistoryLimits, prunable } from "#coordinator/core/history.ts";
import { reuseMsMax } from "#coordinator/core/reuse.ts";
import type { Memory } from "#coordinator/memory.ts";

/** A start has other things to do first. */
const firstRoundMs = 60_000;
/** Ten thousand chains of 2 kB are read in a second; the history does not grow much in an hour. */
const roundMs = 60 * 60_000;

export class HistoryKeeper {
  readonly #ports: Pick<CoordinatorPorts, "history" | "removeLogs">;
  readonly #memory: Pick<Memory, "forgetBuilds">;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #limits: HistoryLimits;
  readonly #isLive: (chain: ChainId) => boolean;

  constructor(
    ports: Pick<CoordinatorPorts, "history" | "removeLogs">,
    memory: Pick<Memory, "forgetBuilds">,
    clock: Clock,
    log: Log,
    limits: HistoryLimits,
    isLive: (chain: ChainId) => boolean,
  ) {
    this.#ports = ports;
    this.#memory = memory;
    this.#clock = clock;
    this.#log = log;
    this.#limits = limits;
    this.#isLive = isLive;
  }

  /** Goes on until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    let pauseMs = firstRoundMs;
    while (await this.#clock.pause(pauseMs, signal)) {
      pauseMs = roundMs;
      try {
        await this.prune();
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        this.#log.warn({ err: error }, "the history could not be pruned and is tried again");
      }
    }
  }

  /** One round. @returns how many chains are gone. @throws UnavailableError */
  async prune(): Promise<number> {
    await this.#memory.forgetBuilds(this.#clock.now() - reuseMsMax);
    const chains = await this.#ports.history.all();
    const gone = prunable(chains, this.#limits, this.#clock.now()).filter((id) => !this.#isLive(id));
    await this.#ports.removeLogs(gone);
    await this.#ports.history.removeAll(gone);
    if (gone.length > 0) this.#log.info({ gone: gone.length, of: chains.length }, "old chains have left the history");
    return gone.length;
  }
}
