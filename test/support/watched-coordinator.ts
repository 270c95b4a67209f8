/**
 * The real coordinator over a real connection, as a process that a test can freeze, replace, cut off, and whose commits it can
 * let go wrong. What it hears and what it forgets is told to the test.
 *
 * 1. A frozen one hears nothing, and a commit that it has begun goes out only when it is woken.
 * 2. One that was frozen has been replaced: when it asks whether it leads, the answer is no.
 */
import { isDeepStrictEqual } from "node:util";
import type { Call, CoordinatorPorts } from "#actor/coordinator-ports.ts";
import { silentLog } from "#actor/log.ts";
import { type Connection, onReconnect } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { Coordinator, type CoordinatorOptions } from "#coordinator/coordinator.ts";
import type { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import type { Announcement } from "#protocol/agent.ts";
import { encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { adminSubject } from "#protocol/names.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { SteppedClock } from "#test/support/stepped-clock.ts";

/** What becomes of a commit whose answer does not come; `partly` means all where the records belong together. */
export const commitFaults = ["lost", "partly", "landed"] as const;
export type CommitFault = (typeof commitFaults)[number];

export type Decide = NonNullable<CoordinatorOptions["decide"]>;

export class WatchedCoordinator {
  readonly clock = new SteppedClock();
  /** What becomes of the next commit. */
  nextFault: CommitFault | undefined;
  /** Commits that did not succeed for certain. */
  commitFailures = 0;
  /** What it says to itself when it looks at its clock; without this only the fence tells it. */
  isLeaseOver = false;
  /** Whether each commit after it was frozen has landed. */
  readonly lateCommits: boolean[] = [];
  /** What it has answered to what was put into its hand. */
  readonly handedAnswers: unknown[] = [];
  readonly #connection: Connection;
  readonly #coordinator: Coordinator;
  readonly #held = new Arrivals<"commit">("commit of a frozen coordinator");
  readonly #ends = new Arrivals<"stopped" | "deposed">("end of a coordinator");
  readonly #death = Promise.withResolvers<never>();
  readonly #reconnected = new Arrivals<"reconnection">("reconnection of the coordinator");
  readonly #hearers = new Set<(statement: Announcement) => void>();
  #forgetters: (() => void)[] = [];
  #handle: ((call: Call) => void) | undefined;
  #frozen: PromiseWithResolvers<void> | undefined;
  #wasFrozen = false;

  constructor(connection: Connection, decide?: Decide) {
    this.#connection = connection;
    this.#death.promise.catch(() => undefined);
    onReconnect(connection, () => this.#reconnected.push("reconnection"));
    const lead = { isLeading: () => !this.isLeaseOver, confirm: () => Promise.resolve(!this.#wasFrozen) };
    const options = { lead, ...(decide === undefined ? {} : { decide }) };
    this.#coordinator = new Coordinator(this.#ports(coordinatorPorts(connection)), this.clock, silentLog, options);
  }

  async start(): Promise<void> {
    await this.#coordinator.start();
    this.#coordinator.finished().then(this.#ends.push, this.#death.reject);
  }

  /** Rejects with the error that ends the process. */
  get death(): Promise<never> {
    return this.#death.promise;
  }

  async stop(): Promise<void> {
    await this.#coordinator.stop();
    await this.#connection.close();
  }

  /** Invariant 1. */
  freeze(): void {
    this.#frozen = Promise.withResolvers();
    this.#wasFrozen = true;
  }

  /** It goes on where it was, and then hears what has come meanwhile. */
  wake(): void {
    this.#frozen?.resolve();
    this.#frozen = undefined;
  }

  /** Resolves when a frozen one has a commit that it cannot send. */
  async untilHeld(): Promise<void> {
    await this.#held.next();
  }

  async untilDeposed(): Promise<void> {
    await this.#ends.next((how) => how === "deposed");
  }

  /** Gives it a request that nobody else gets. */
  hand(request: AdminRequest): void {
    const answer = (body: unknown) => void this.handedAnswers.push(body);
    this.#handle?.({ subject: adminSubject, bytes: encode(request), answer });
  }

  /** Cuts its connection, and resolves when it is back. */
  async cut(): Promise<void> {
    await this.#connection.reconnect();
    await this.#reconnected.next();
  }

  /** Resolves when this statement has been heard. */
  heard(statement: Announcement): Promise<void> {
    return new Promise((resolve) => {
      const hear = (other: Announcement) => {
        if (!isDeepStrictEqual(other, statement)) return;
        this.#hearers.delete(hear);
        resolve();
      };
      this.#hearers.add(hear);
    });
  }

  /** Resolves when it has forgotten who waits for an answer. */
  forgotten(): Promise<void> {
    return new Promise((resolve) => this.#forgetters.push(resolve));
  }

  #ports(real: CoordinatorPorts): CoordinatorPorts {
    const { records } = real;
    return {
      ...real,
      records: {
        removedMs: records.removedMs,
        load: () => records.load(),
        fence: async (expected) => {
          const result = await records.fence(expected);
          for (const forget of this.#forgetters.splice(0)) forget();
          return result;
        },
        commit: (...commit) => this.#commit(records, commit),
      },
      serveAsks: (handle) => real.serveAsks((call) => this.#awake(() => handle(call))),
      serveAdmin: (handle) => {
        this.#handle = handle;
        return real.serveAdmin((call) => this.#awake(() => handle(call)));
      },
      watchPresence: (signal, call) =>
        real.watchPresence(signal, (statement) => {
          this.#awake(() => {
            call(statement);
            for (const hear of this.#hearers) hear(statement);
          });
        }),
    };
  }

  #awake(work: () => void): void {
    if (this.#frozen === undefined) work();
    else void this.#frozen.promise.then(work);
  }

  async #commit(
    records: CoordinatorPorts["records"],
    [changes, expected, isAtomic]: Parameters<CoordinatorPorts["records"]["commit"]>,
  ) {
    if (this.#frozen !== undefined) {
      this.#held.push("commit");
      await this.#frozen.promise;
    }
    const fault = this.nextFault;
    this.nextFault = undefined;
    const size = fault === "partly" && !isAtomic ? Math.ceil(changes.size / 2) : changes.size;
    const sent = new Map([...changes].slice(0, size));
    const result = fault === "lost" ? undefined : await records.commit(sent, expected, isAtomic);
    if (this.#wasFrozen) this.lateCommits.push(result?.ok === true);
    if (fault !== undefined || result?.ok !== true) this.commitFailures += 1;
    if (fault !== undefined || result === undefined) {
      throw new UnavailableError("timeout", `the commit of ${changes.size} records was not answered`);
    }
    return result;
  }
}

export type AnswerOf<K extends AdminAnswer["kind"]> = Extract<AdminAnswer, { kind: K }>;
