/**
 * Users who ask for chains, and cancel some, as fast as they are answered; and what they were promised.
 *
 * 1. A promise is noted when its answer is here, never before.
 */
import { askAdmin } from "#bus/farm-client.ts";
import type { Connection } from "#bus/connection.ts";
import type { AdminAnswer, ChainRequest } from "#protocol/admin.ts";
import { InvariantError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { buildRequest, installRequest, uploadRequest } from "#test/support/farm-builders.ts";

/** Chains that each user asks for at once: most want one device, one wants some, one the whole house. */
const chainsAtOnce = [1, 1, 1, 1, 1, 1, 20, 250] as const;
/** Every third request is followed by a cancel of its first chain. */
const cancelEvery = 3;

export interface Promises {
  /** Answered `accepted`. */
  readonly accepted: ReadonlySet<ChainId>;
  /** Answered `cancelling`: these ended with it, since no agent has touched them. */
  readonly cancelled: ReadonlySet<ChainId>;
  /** Chains that have been asked for and were not answered yet. */
  readonly open: number;
}

export class BusyUsers {
  readonly #connection: Connection;
  readonly #accepted = new Set<ChainId>();
  readonly #cancelled = new Set<ChainId>();
  readonly #users: Promise<void>[];
  #asked = 0;
  #isOver = false;
  #failure: unknown;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#users = chainsAtOnce.map((count) =>
      this.#keepAsking(count).catch((error: unknown) => {
        // What fails once the power is gone has nothing to say.
        if (!this.#isOver) this.#failure ??= error;
      }),
    );
  }

  /** What was promised until this instant. Throws when a user was not served. */
  promises(): Promises {
    if (this.#failure !== undefined) throw this.#failure;
    this.#isOver = true;
    const accepted = new Set(this.#accepted);
    return { accepted, cancelled: new Set(this.#cancelled), open: this.#asked - accepted.size };
  }

  /** Ends the connection with them. */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.#connection.close();
    await Promise.all(this.#users);
  }

  async #keepAsking(count: number): Promise<void> {
    for (let turn = 1; !this.#isOver; turn++) {
      const chains = Array.from({ length: count }, () => this.#nextRequest());
      const answer = await askAdmin(this.#connection, { v: 1, kind: "submit", chains });
      if (answer.kind !== "accepted") throw unexpected(answer);
      for (const id of answer.chains) this.#accepted.add(id);
      const [first] = answer.chains;
      if (turn % cancelEvery === 0 && first !== undefined) await this.#cancel(first);
    }
  }

  /** Every configuration and device is new, so that no chain supersedes another or waits for it. */
  #nextRequest(): ChainRequest {
    this.#asked += 1;
    const make = [installRequest, buildRequest, uploadRequest][this.#asked % 3] ?? installRequest;
    return make(this.#asked);
  }

  async #cancel(id: ChainId): Promise<void> {
    const answer = await askAdmin(this.#connection, { v: 1, kind: "cancel", of: { reference: id } });
    if (answer.kind !== "cancelling") throw unexpected(answer);
    this.#cancelled.add(id);
  }
}

function unexpected(answer: AdminAnswer): InvariantError {
  return new InvariantError("unexpected-answer", `the coordinator answered ${JSON.stringify(answer).slice(0, 200)}`);
}
