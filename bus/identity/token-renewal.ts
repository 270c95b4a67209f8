/**
 * An agent's token, which ends: it gets itself a new one at each start and long before the end.
 *
 * 1. A new token is on the disk before it is used.
 * 2. The connection goes on; with the new token it comes back whenever it has to be made again. Only where the new one allows something
 *    else than the one before, as after an upgrade, it is made again at once.
 */
import type { Clock } from "#actor/clock.ts";
import type { Log } from "#actor/log.ts";
import { once, type Service } from "#actor/service.ts";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import { tokenRenewMs } from "#protocol/limits.ts";
import type { PairAnswer } from "#protocol/pairing.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { type Credentials, signInOf, writeCredentials } from "#bus/identity/credentials.ts";
import { askToRenew, connectAsStranger } from "#bus/identity/joining.ts";
import { claimsOf, endOf } from "#bus/identity/token-claims.ts";

/** How often it looks at the clock, which may have been set meanwhile; and asks again where nobody has answered. */
const lookMs = 60 * 60_000;
const againMs = 5_000;

export class TokenRenewal implements Service {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #stopping = new AbortController();
  #credentials: Credentials;
  #running: Promise<void> = Promise.resolve();
  #connection: Connection | undefined;

  constructor(path: string, credentials: Credentials, clock: Clock, log: Log) {
    this.#path = path;
    this.#credentials = credentials;
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * Connects with the token. One that is no good any more is renewed first, as whoever has not signed in.
   * @throws as `connect`; UsageError `not-let-in` when the farm gives it no new one, and why
   */
  async connect(servers: string, name: string): Promise<Connection> {
    const enter = () =>
      connect(servers, name, { ...signInOf(this.#credentials), token: () => this.#credentials.token });
    try {
      this.#connection = await enter();
    } catch (error) {
      if (!(error instanceof UsageError) || error.code !== "not-let-in") throw error;
      await this.#renewAsStranger(servers, error);
      this.#connection = await enter();
    }
    return this.#connection;
  }

  async #renewAsStranger(servers: string, shutOut: UsageError): Promise<void> {
    const { pin, authority } = this.#credentials.farm;
    const stranger = await connectAsStranger({ servers, pin }, authority);
    try {
      const answer = await askToRenew(stranger, this.#credentials);
      if (answer.kind === "joined") return await this.#take(answer);
      const reason = answer.kind === "refused" ? answer.message : answer.kind;
      throw new UsageError("not-let-in", `${shutOut.message}. Asked for a new token, the farm says: ${reason}`);
    } finally {
      await stranger.close();
    }
  }

  readonly start = once(async (): Promise<void> => {
    this.#running = this.#run();
  });

  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    await this.#running;
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let isDue = true;
    do {
      if (isDue) isDue = !(await this.#renew());
      await this.#clock.pause(isDue ? againMs : lookMs, signal);
      isDue ||= (endOf(this.#credentials.token) ?? Infinity) - this.#clock.now() < tokenRenewMs;
    } while (!signal.aborted);
  }

  /** @returns whether the farm has answered */
  async #renew(): Promise<boolean> {
    const connection = this.#connection;
    if (connection === undefined || connection.isClosed()) return true;
    try {
      const answer = await askToRenew(connection, this.#credentials);
      if (answer.kind !== "joined") {
        const reason = answer.kind === "refused" ? answer.message : answer.kind;
        this.#log.warn({ reason }, "the farm gives this agent no new token");
        return true;
      }
      const before = rightsOf(this.#credentials.token);
      await this.#take(answer);
      this.#log.info({ until: new Date(answer.expiresAt).toISOString() }, "the token is renewed");
      if (before !== rightsOf(answer.token)) await connection.reconnect();
      return true;
    } catch (error) {
      if (!(error instanceof UnavailableError))
        this.#log.warn({ reason: messageOf(error) }, "the token is not renewed");
      return !(error instanceof UnavailableError);
    }
  }

  /** Invariant 1. */
  async #take({ token }: Extract<PairAnswer, { kind: "joined" }>): Promise<void> {
    const next = { ...this.#credentials, token };
    await writeCredentials(this.#path, next);
    this.#credentials = next;
  }
}

/** What a token allows, as text to compare. */
function rightsOf(token: string): string {
  return JSON.stringify(claimsOf(token)?.nats);
}
