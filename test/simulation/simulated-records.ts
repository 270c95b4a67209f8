/** The live chains at the simulated server, written as `bus/chain-store.ts` does it. */
import type { ChainRecords, CommitResult, LoadedChains } from "#actor/coordinator-ports.ts";
import type { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { SimulatedConnection } from "#test/simulation/simulated-connection.ts";
import { type Changes, markerMs } from "#test/simulation/simulated-server.ts";

const timeoutMs = 5_000;

export class SimulatedRecords implements ChainRecords {
  readonly removedMs = markerMs;
  readonly #connection: SimulatedConnection;
  /** Tells the writes of this reign from all others. */
  readonly #writer: string;
  #commits = 0;

  constructor(connection: SimulatedConnection) {
    this.#connection = connection;
    this.#writer = `${connection.end} since ${connection.world.time.now} ms`;
  }

  async load(): Promise<LoadedChains> {
    const { server, trace } = this.#connection.world;
    const loaded = await this.#connection.request("load", timeoutMs, () => server.load());
    trace(`${this.#connection.end} loads ${loaded.chains.length} live chains`);
    return { ...loaded, damaged: [] };
  }

  fence(expectedLastSequence: number): Promise<CommitResult> {
    return this.commit(new Map(), expectedLastSequence, true);
  }

  /** Atomic changes go as one message; others as one each, each of which expects the one before it by name. */
  async commit(
    changes: ReadonlyMap<ChainId, Chain | undefined>,
    expectedLastSequence: number,
    isAtomic: boolean,
  ): Promise<CommitResult> {
    const { server, trace, watcher } = this.#connection.world;
    const groups = isAtomic ? [changes] : [...changes].map((entry): Changes => new Map([entry]));
    this.#commits += 1;
    const nameOf = (index: number) => `${this.#writer}: ${this.#commits}.${index}`;
    try {
      const outcomes = await Promise.all(
        groups.map((group, index) => {
          const expected = this.expectedBy(index, expectedLastSequence, nameOf);
          const name = nameOf(index);
          return this.#connection.requestInOrder("commit", timeoutMs, () => server.write(group, name, expected));
        }),
      );
      const last = outcomes.at(-1);
      if (last?.ok === true && outcomes.every(({ ok }) => ok)) return { ok: true, lastSequence: last.sequence };
    } catch (error) {
      trace(`${this.#connection.end}: a commit is not answered`);
      watcher.commitFailed();
      throw error;
    }
    trace(`${this.#connection.end}: a commit is refused`);
    watcher.commitFailed();
    return { ok: false, reason: "conflict", detail: "somebody has written since" };
  }

  /** The sequence of the write before the one of this index, or its name: a sequence alone would not say whose it is. */
  protected expectedBy(index: number, first: number, nameOf: (index: number) => string): number | string {
    return index === 0 ? first : nameOf(index - 1);
  }
}
