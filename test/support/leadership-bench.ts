/** Rival coordinators in simulated time: a lease that the test can keep away or take away, and reigns that the test ends. */
import type { Lease } from "#actor/lease.ts";
import type { Log } from "#actor/log.ts";
import type { Lead } from "#coordinator/held-lease.ts";
import { Leadership, type Reign } from "#coordinator/leadership.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { LeaseHolder } from "#protocol/lease.ts";
import { leadTtlMs } from "#protocol/limits.ts";
import { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import { SimulatedTime } from "#test/simulation/simulated-time.ts";
import { bootNumber, startAt } from "#test/support/farm-builders.ts";

/** There and back. */
const roundTripMs = 2;

export class LeadershipBench {
  readonly time = new SimulatedTime();
  /** What happened, e.g. `1 takes`, in order. */
  readonly trace: string[] = [];
  /** Instants of what happened. */
  readonly at: number[] = [];
  key: { readonly rival: Rival; readonly until: number; readonly value: LeaseHolder } | undefined;
  #rivals = 0;

  rival(): Rival {
    this.#rivals += 1;
    return new Rival(this, this.#rivals);
  }

  note(what: string): void {
    this.trace.push(what);
    this.at.push(this.time.now);
  }

  /** When something happened last, ms since the start. */
  lastAt(what: string): number | undefined {
    return this.at[this.trace.lastIndexOf(what)];
  }

  count(what: string): number {
    return this.trace.filter((other) => other === what).length;
  }

  async pass(ms: number): Promise<void> {
    await this.time.run(this.time.now + ms, () => false);
  }

  /** Waits in simulated time. */
  async settled<T>(work: Promise<T>): Promise<T> {
    let isOver = false;
    const end = () => (isOver = true);
    work.then(end, end);
    await this.time.run(this.time.now + 60_000, () => isOver);
    return work;
  }
}

export class Rival {
  readonly process: SimulatedProcess;
  readonly leadership: Leadership;
  readonly reigns: ScriptedReign[] = [];
  readonly said: string[] = [];
  /** The server does not answer this one. */
  isCut = false;
  /** After this a request that is not answered fails. */
  timeoutMs = 1_500;
  /** What the next call throws instead of asking. */
  failure: Error | undefined;
  /** How long a reign's start and stop take. */
  startMs = 0;
  stopMs = 0;
  readonly #bench: LeadershipBench;
  readonly #n: number;
  #isAsking = false;

  constructor(bench: LeadershipBench, n: number) {
    this.#bench = bench;
    this.#n = n;
    this.process = new SimulatedProcess(bench.time, `coordinator ${n}`, () => startAt + bench.time.now);
    const say = (...words: unknown[]) => void this.said.push(String(words.at(-1)));
    const log = { debug: say, info: say, warn: say, error: say, fatal: say, child: () => log } as unknown as Log;
    this.leadership = new Leadership(this.#lease(), this.process.clock, log, (lead) => {
      const reign = new ScriptedReign(this, lead, (what) => bench.note(`${n} ${what}`));
      this.reigns.push(reign);
      return reign;
    });
  }

  get reign(): ScriptedReign {
    const reign = this.reigns.at(-1);
    if (reign === undefined) throw new Error(`coordinator ${this.#n} has not reigned`);
    return reign;
  }

  #lease(): Lease {
    const bench = this.#bench;
    const isOurs = () => bench.key?.rival === this;
    const put = (since: number) => {
      const value = { v: 1 as const, holder: bootNumber(this.#n), host: "host", pid: this.#n, since };
      bench.key = { rival: this, until: bench.time.now + leadTtlMs, value };
      return true;
    };
    return {
      take: () => this.#ask("takes", () => (bench.key === undefined || isOurs()) && put(this.process.clock.now())),
      renew: () => this.#ask("renews", () => isOurs() && put(bench.key?.value.since ?? 0)),
      release: () => this.#ask("releases", () => void (isOurs() && (bench.key = undefined))),
      holder: () => this.#ask("looks", () => bench.key?.value),
    };
  }

  /** Invariant 4 of `actor/lease.ts`. */
  async #ask<T>(what: string, atServer: () => T): Promise<T> {
    this.#bench.note(`${this.#n} ${what}`);
    if (this.#isAsking) throw new Error(`coordinator ${this.#n} ${what} before its last question was answered`);
    this.#isAsking = true;
    try {
      return await this.#askServer(atServer);
    } finally {
      this.#isAsking = false;
    }
  }

  async #askServer<T>(atServer: () => T): Promise<T> {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    if (this.isCut)
      this.process.after(this.timeoutMs, () => reject(new UnavailableError("timeout", "the server is away")));
    else
      this.#bench.time.after(roundTripMs / 2, () => {
        if ((this.#bench.key?.until ?? 0) <= this.#bench.time.now) this.#bench.key = undefined;
        const answer = atServer();
        this.process.after(roundTripMs / 2, () => resolve(answer));
      });
    return promise;
  }
}

export class ScriptedReign implements Reign {
  readonly lead: Lead;
  readonly #rival: Rival;
  readonly #note: (what: string) => void;
  readonly #end = Promise.withResolvers<"deposed" | "stopped">();

  constructor(rival: Rival, lead: Lead, note: (what: string) => void) {
    this.lead = lead;
    this.#rival = rival;
    this.#note = note;
    this.#end.promise.catch(() => undefined);
  }

  async start(): Promise<void> {
    this.#note("starts");
    await this.#takes(this.#rival.startMs);
  }

  finished(): Promise<"deposed" | "stopped"> {
    return this.#end.promise;
  }

  async stop(): Promise<void> {
    this.#note("stops");
    await this.#takes(this.#rival.stopMs);
    this.#note("has stopped");
    this.#end.resolve("stopped");
  }

  depose(): void {
    this.#end.resolve("deposed");
  }

  fail(error: Error): void {
    this.#end.reject(error);
  }

  async #takes(ms: number): Promise<void> {
    if (ms > 0) await this.#rival.process.clock.pause(ms);
  }
}
