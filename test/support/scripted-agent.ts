/**
 * An agent whose every step is a line of the test: it announces itself and pulls its lane over the real bus, and claims and
 * reports only when it is told to.
 */
import type { Announcement } from "#protocol/agent.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Ask, AskAnswer, Dispatch, StopOrder } from "#protocol/messages.ts";
import { silentLog } from "#actor/log.ts";
import type { Delivery } from "#actor/lane-worker.ts";
import type { Connection } from "#bus/connection.ts";
import { askCoordinator } from "#bus/agent-client.ts";
import { type LaneDoor, laneSource } from "#bus/lanes.ts";
import { announce } from "#bus/presence.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { statementOf, type StatementOptions } from "#test/support/farm-builders.ts";

/** More often than a real agent, for tests that wait for the next statement. */
const beatMs = 200;

/** A job in the hands of the agent. */
export interface HandedJob {
  readonly dispatch: Dispatch;
  claim(): Promise<AskAnswer>;
  claimFlash(): Promise<AskAnswer>;
  report(result: JobResult): Promise<AskAnswer>;
}

export class ScriptedAgent implements AsyncDisposable {
  readonly id: AgentId;
  readonly stops = new Arrivals<StopOrder>("stop order");
  readonly #connection: Connection;
  readonly #handed = new Arrivals<HandedJob>("dispatch");
  readonly #stopping = new AbortController();
  readonly #orders: { stop(): void };
  readonly #pulling: Promise<void>;
  readonly #beat: NodeJS.Timeout;
  #statement: Announcement;

  /** @param door of a farm with identity: it asks for its lane, as a real agent does */
  constructor(connection: Connection, lane: Lane, name: string, options: StatementOptions = {}, door?: LaneDoor) {
    this.#connection = connection;
    this.#statement = statementOf(name, lane, options);
    this.id = this.#statement.agent;
    const source = laneSource(connection, lane, this.id, this.#statement.slots, silentLog, door);
    this.#orders = source.onStop(this.stops.push);
    this.#pulling = this.#pull(source.pull(this.#stopping.signal));
    this.#beat = setInterval(() => announce(connection, this.#statement), beatMs);
    announce(connection, this.#statement);
  }

  /** The next dispatch that was not handed out yet; one of an attempt that is in hand already comes again after an outage. */
  next(): Promise<HandedJob> {
    return this.#handed.next();
  }

  /** How often dispatches have been delivered. */
  get deliveries(): number {
    return this.#handed.all.length;
  }

  /** Says nothing more and keeps its connection, as a process does that is stopped (SIGSTOP). */
  freeze(): void {
    clearInterval(this.#beat);
  }

  /** Ends without a word, as a killed process does. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#beat);
    this.#orders.stop();
    this.#stopping.abort();
    await this.#pulling;
  }

  async #pull(deliveries: AsyncIterable<Delivery>): Promise<void> {
    for await (const delivery of deliveries) {
      const { dispatch } = delivery;
      this.#handed.push({
        dispatch,
        claim: async () => {
          const answer = await this.#ask({ ...this.#identityOf(dispatch), kind: "claim" });
          delivery.done();
          if (answer.verdict === "go") this.#hold([...this.#statement.holding, this.#heldOf(dispatch)]);
          return answer;
        },
        claimFlash: () => this.#ask({ ...this.#identityOf(dispatch), kind: "flash-claim" }),
        report: async (result) => {
          const answer = await this.#ask({ ...this.#identityOf(dispatch), kind: "report", result });
          this.#hold(this.#statement.holding.filter((held) => held.chain !== dispatch.chain));
          return answer;
        },
      });
    }
  }

  #identityOf(dispatch: Dispatch) {
    return { v: 1 as const, boot: this.#statement.boot, ...this.#heldOf(dispatch) };
  }

  #heldOf({ chain, job, attempt }: Dispatch) {
    return { chain, job, attempt };
  }

  #hold(holding: Announcement["holding"]): void {
    this.#statement = { ...this.#statement, holding };
    announce(this.#connection, this.#statement);
  }

  /** Asks until answered, as the lane worker does. */
  async #ask(ask: Ask): Promise<AskAnswer> {
    for (;;) {
      try {
        return await askCoordinator(this.#connection, this.id, ask);
      } catch (error) {
        if (!(error instanceof UnavailableError) || this.#stopping.signal.aborted) throw error;
      }
    }
  }
}
