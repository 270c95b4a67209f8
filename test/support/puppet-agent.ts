/**
 * An agent that pulls its lane over the real bus and does nothing else by itself: each claim, report and statement is a command
 * of the test.
 *
 * 1. A statement names every job of this boot in its hands, except where a test adds one.
 * 2. A new boot has nothing in its hands; what an older one was given is lost.
 */
import type { Announcement, HeldJob } from "#protocol/agent.ts";
import { encode } from "#protocol/envelope.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { JobResult, Lane } from "#protocol/job.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { buckets, dispatchId, keySubject, presenceKey } from "#protocol/names.ts";
import { silentLog } from "#actor/log.ts";
import type { Connection } from "#bus/connection.ts";
import { laneSource } from "#bus/lanes.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { bootNumber, startAt, statementOf } from "#test/support/farm-builders.ts";

/** A dispatch, and how far this boot has come with it; `ended` has a result that the coordinator has not noted yet. */
export interface Task {
  readonly agent: AgentId;
  readonly boot: number;
  readonly dispatch: Dispatch;
  stage: "offered" | "claimed" | "flashing" | "ended" | "over";
  result?: JobResult;
}

export class PuppetAgent implements AsyncDisposable {
  readonly id: AgentId;
  readonly lane: Lane;
  readonly slots: number;
  readonly connection: Connection;
  boot = 0;
  /** Since when nobody has heard it, by the coordinator's clock. */
  silentMs = 0;
  readonly #tasks = new Map<string, Task>();
  readonly #arrivals: Arrivals<Dispatch>;
  readonly #stopping = new AbortController();
  readonly #pulling: Promise<void>;
  #statements = 0;

  constructor(connection: Connection, lane: Lane, name: string, slots: number) {
    this.connection = connection;
    this.lane = lane;
    this.slots = slots;
    this.id = statementOf(name, lane).agent;
    this.#arrivals = new Arrivals(`dispatch to ${name}`);
    // Taken from the lane at once, so that one which is not claimed is in nobody's way.
    this.#pulling = this.#pull(slots + 8);
  }

  /** Everything it was ever given since `begin`, oldest first. */
  get tasks(): readonly Task[] {
    return [...this.#tasks.values()];
  }

  /** What this boot can go on with. */
  tasksAt(...stages: readonly Task["stage"][]): readonly Task[] {
    return this.tasks.filter(({ boot, stage }) => boot === this.boot && stages.includes(stage));
  }

  /** A new life, and no memory of the one before. */
  begin(): void {
    this.restart();
    this.silentMs = 0;
    this.#tasks.clear();
  }

  /** Invariant 2. */
  restart(): void {
    this.boot += 1;
  }

  /** Resolves when this dispatch has come, to whichever boot. */
  async untilGiven(dispatch: Pick<Dispatch, "chain" | "job" | "attempt">): Promise<void> {
    while (!this.#tasks.has(keyOf(dispatch))) await this.#arrivals.next();
  }

  /** Another one each time. */
  statement(more: { readonly slots?: number; readonly holding?: readonly HeldJob[] } = {}): Announcement {
    this.#statements += 1;
    const own = this.tasksAt("claimed", "flashing", "ended").map(({ dispatch: { chain, job, attempt } }) => ({
      chain,
      job,
      attempt,
    }));
    return statementOf(this.id, this.lane, {
      boot: this.boot,
      slots: more.slots ?? this.slots,
      idleSince: startAt + this.#statements,
      warm: ["kitchen"],
      holding: [...own, ...(more.holding ?? [])],
    });
  }

  /** Resolves when the server has the statement. */
  async publish(statement: Announcement): Promise<void> {
    const subject = keySubject(buckets.presence, presenceKey(this.id));
    await this.connection.request(subject, encode(statement), { timeout: 500 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#pulling;
  }

  async #pull(ahead: number): Promise<void> {
    const source = laneSource(this.connection, this.lane, this.id, ahead, silentLog);
    // It does nothing on orders; but who does not listen to them is taken for gone.
    const orders = source.onStop(() => undefined);
    this.#stopping.signal.addEventListener("abort", () => orders.stop(), { once: true });
    for await (const delivery of source.pull(this.#stopping.signal)) {
      const { dispatch } = delivery;
      delivery.done();
      const key = keyOf(dispatch);
      // After an outage it may come again.
      if (!this.#tasks.has(key)) this.#tasks.set(key, { agent: this.id, boot: this.boot, dispatch, stage: "offered" });
      this.#arrivals.push(dispatch);
    }
  }
}

/** The n-th life of an agent as the protocol names it. */
export const bootOf = ({ boot }: Pick<Task, "boot">) => bootNumber(boot);

function keyOf({ chain, job, attempt }: Pick<Dispatch, "chain" | "job" | "attempt">): string {
  return dispatchId(chain, job, attempt);
}
