/** A lane worker on the bench: its lane, its link to the coordinator and its clock are in the hands of the test. */
import type { Delivery, LaneSource, Link } from "#actor/lane-worker.ts";
import type { Announcement } from "#protocol/agent.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { Lane } from "#protocol/job.ts";
import type { Ask, AskAnswer, CompileDispatch, StopOrder, UploadDispatch } from "#protocol/messages.ts";
import {
  buildSpec,
  chainNumber,
  configurationNamed,
  manifestOfBuild,
  startAt,
  statementOf,
  targetAt,
} from "#test/support/farm-builders.ts";
import { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import { SimulatedTime } from "#test/simulation/simulated-time.ts";

const away = () => new UnavailableError("no-answer", "nobody answers");

export function compileDispatch(n: number, attempt = 1): CompileDispatch {
  const identity = { v: 1 as const, chain: chainNumber(n), attempt, configuration: configurationNamed(`device ${n}`) };
  return { ...identity, job: "compile", spec: buildSpec() };
}

export function uploadDispatch(n: number, attempt = 1): UploadDispatch {
  const identity = { v: 1 as const, chain: chainNumber(n), attempt, configuration: configurationNamed(`device ${n}`) };
  return { ...identity, job: "upload", mode: "flash", target: targetAt("a.local"), manifest: manifestOfBuild("build") };
}

export class LaneBench {
  readonly time = new SimulatedTime();
  readonly clock = new SimulatedProcess(this.time, "agent", () => startAt + this.time.now).clock;
  readonly asked: Ask[] = [];
  readonly announced: Announcement[] = [];
  /** Dispatches that the worker has given back to the lane as done. */
  done = 0;
  /** Listeners to stop orders that have not been taken away. */
  listeners = 0;
  /** Whether server and coordinator are there. */
  isUp = true;
  /** What the coordinator says; may wait. */
  answer: (ask: Ask) => AskAnswer | Promise<AskAnswer> = (ask) => ({
    v: 1,
    verdict: ask.kind === "report" ? "noted" : "go",
  });
  #deliver: ((delivery: Delivery) => void) | undefined;
  #order: ((order: StopOrder) => void) | undefined;

  readonly link: Link = {
    ask: async (ask) => {
      this.asked.push(ask);
      if (!this.isUp) throw away();
      return this.answer(ask);
    },
    announce: (announcement) => {
      this.announced.push(announcement);
    },
    ping: async () => {
      if (!this.isUp) throw away();
    },
  };

  readonly source: LaneSource = {
    pull: (signal) => this.#pull(signal),
    onStop: (handle) => {
      this.#order = handle;
      this.listeners += 1;
      return { stop: () => (this.listeners -= 1) };
    },
  };

  identity(lane: Lane, slots = 1) {
    const { v: _v, idleSince: _idleSince, holding: _holding, ...identity } = statementOf("a", lane, { slots });
    return identity;
  }

  /** Puts a dispatch into the worker's hands and lets everything happen that needs no time. */
  async hand(dispatch: CompileDispatch | UploadDispatch): Promise<void> {
    this.#deliver?.({ dispatch, done: () => (this.done += 1) });
    await this.pass(0);
  }

  async stop(dispatch: CompileDispatch | UploadDispatch): Promise<void> {
    const { chain, job, attempt } = dispatch;
    this.#order?.({ v: 1, chain, job, attempt });
    await this.pass(0);
  }

  async pass(ms: number): Promise<void> {
    await this.time.run(this.time.now + ms, () => false);
  }

  asks(kind: Ask["kind"]): number {
    return this.asked.filter((ask) => ask.kind === kind).length;
  }

  get holding(): number {
    return this.announced.at(-1)?.holding.length ?? 0;
  }

  async *#pull(signal: AbortSignal): AsyncGenerator<Delivery> {
    let waiting = Promise.withResolvers<Delivery | undefined>();
    this.#deliver = (delivery) => waiting.resolve(delivery);
    signal.addEventListener("abort", () => waiting.resolve(undefined));
    while (!signal.aborted) {
      const delivery = await waiting.promise;
      if (delivery === undefined) return;
      waiting = Promise.withResolvers<Delivery | undefined>();
      yield delivery;
    }
  }
}
