/**
 * Tells whoever wants it what devices say on the ports of this agent, as long as the wish is repeated.
 *
 * 1. A port is read once, however many want it; all of them at the rate of the first one.
 * 2. Nobody reads on whose last wish is older than `serialLeaseMs`; with its last reader a port is closed.
 * 3. A reader gets no more than `bytesPerSecondMax`; lines beyond are left out, and their number is said.
 * 4. Whoever flashes has the port at once (`readSerialLog`); it is opened again afterwards.
 */
import type { Clock } from "#actor/clock.ts";
import type { Listening } from "#actor/coordinator-ports.ts";
import { once, type Service } from "#actor/service.ts";
import { describeFailure } from "#protocol/failure.ts";
import { messageOf } from "#protocol/errors.ts";
import {
  type PortId,
  serialLeaseMs,
  serialLinesMax,
  type SerialLogPart,
  type SerialLogWish,
  serialPartBytes,
} from "#protocol/serial.ts";
import type { PortOwners } from "#upload-agent/serial/port-owner.ts";
import type { SerialPorts } from "#upload-agent/serial/ports.ts";
import { readSerialLog, type SerialLogEnd } from "#upload-agent/serial/serial-log.ts";

/** Lines are gathered this long: short for who watches, and ten messages a second at most. */
const gatherMs = 100;
/** Twice what the fastest usual rate (921,600 baud) carries. */
const bytesPerSecondMax = 200_000;
/** A port that cannot be read now is tried again after this. */
const againMs = 1_000;
const readersPerPortMax = 8;
/** How often leases are looked at. */
const lookMs = 1_000;

type Answer = (part: SerialLogPart) => void;

export interface SerialLogServiceOptions {
  readonly ports: Pick<SerialPorts, "find">;
  readonly owners: PortOwners;
  readonly clock: Clock;
  readonly onWish: (handle: (wish: SerialLogWish, answer: Answer) => void) => Listening;
}

export class SerialLogService implements Service {
  readonly #options: SerialLogServiceOptions;
  readonly #logs = new Map<PortId, SharedLog>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #listening: Listening | undefined;

  constructor(options: SerialLogServiceOptions) {
    this.#options = options;
  }

  readonly start = once(async (): Promise<void> => {
    if (this.#stopping.signal.aborted) return;
    this.#listening = this.#options.onWish((wish, answer) => this.#hear(wish, answer));
  });

  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    this.#listening?.stop();
    for (const log of this.#logs.values()) log.end({ v: 1, kind: "ended", why: "agent-ends" });
    await Promise.all(this.#running);
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #hear(wish: SerialLogWish, answer: Answer): void {
    const known = this.#logs.get(wish.port);
    if (wish.isOver === true) return known?.leave(wish.reader);
    // One whose last reader has left is closing its port; the next one waits for that.
    if (known !== undefined && !known.isOver) return known.hear(wish, answer);
    const log = new SharedLog(wish, this.#options);
    this.#logs.set(wish.port, log);
    log.hear(wish, answer);
    const running = log.run().finally(() => {
      this.#running.delete(running);
      if (this.#logs.get(wish.port) === log) this.#logs.delete(wish.port);
    });
    this.#running.add(running);
  }
}

interface Reader {
  answer: Answer;
  /** On the monotonic clock. */
  until: number;
}

/** Invariant 1. */
class SharedLog {
  readonly #options: SerialLogServiceOptions;
  readonly #port: PortId;
  readonly #baud: number;
  readonly #readers = new Map<string, Reader>();
  readonly #over = new AbortController();
  readonly #gathered: GatheredLines;
  /** What a reader who comes now has to know. */
  #state: SerialLogPart | undefined;
  #wasOpen = false;

  constructor({ port, baud }: SerialLogWish, options: SerialLogServiceOptions) {
    this.#port = port;
    this.#baud = baud;
    this.#options = options;
    this.#gathered = new GatheredLines(options.clock, this.#over.signal, (part) => this.#tell(part));
  }

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  hear({ reader, baud }: SerialLogWish, answer: Answer): void {
    const until = this.#options.clock.monotonic() + serialLeaseMs;
    const known = this.#readers.get(reader);
    if (known !== undefined) {
      known.until = until;
      known.answer = answer;
      return;
    }
    const refuse = (why: "other-baud" | "too-many", detail: string) => answer({ v: 1, kind: "ended", why, detail });
    if (baud !== this.#baud) return refuse("other-baud", `somebody reads it at ${this.#baud} baud`);
    if (this.#readers.size === readersPerPortMax) return refuse("too-many", `${readersPerPortMax} read it already`);
    this.#readers.set(reader, { answer, until });
    if (this.#state !== undefined) answer(this.#state);
  }

  leave(reader: string): void {
    this.#readers.delete(reader);
    if (this.#readers.size === 0) this.#over.abort();
  }

  end(last: SerialLogPart): void {
    this.#gathered.flush();
    this.#tell(last);
    this.#readers.clear();
    this.#over.abort();
  }

  /** Until nobody wants it any more, or it cannot be had. Throws nothing. */
  async run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#over;
    const looking = this.#endLeases();
    while (!signal.aborted) {
      const end = await this.#read();
      this.#gathered.flush();
      if (signal.aborted) break;
      const part = this.#afterwards(end);
      if (part.kind === "ended") this.end(part);
      else this.#become(part);
      await clock.pause(againMs, signal);
    }
    await looking;
  }

  async #read(): Promise<SerialLogEnd> {
    const { ports, owners, clock } = this.#options;
    try {
      return await readSerialLog(this.#port, {
        ports,
        owners,
        clock,
        baud: this.#baud,
        signal: this.#over.signal,
        onOpen: () => {
          this.#wasOpen = true;
          this.#become({ v: 1, kind: "opened" });
        },
        onLine: (line) => this.#gathered.add(line),
      });
    } catch (error) {
      const detail = messageOf(error);
      return { kind: "failed", failure: { kind: "port-busy", port: this.#port, detail } };
    }
  }

  /** Invariant 4, and what else a reader is told when reading has come to an end. */
  #afterwards(end: SerialLogEnd): SerialLogPart {
    const paused = (why: "flash" | "unplugged" | "busy", detail?: string): SerialLogPart => ({
      v: 1,
      kind: "paused",
      why,
      ...(detail === undefined ? {} : { detail: detail.slice(0, 500) }),
    });
    switch (end.kind) {
      case "stopped":
      case "yielded":
        return paused("flash");
      case "closed":
        return paused("unplugged");
      case "failed": {
        const { failure } = end;
        if (failure.kind !== "port-missing")
          return paused("busy", failure.kind === "port-busy" ? failure.detail : describeFailure(failure));
        if (this.#wasOpen) return paused("unplugged");
        return { v: 1, kind: "ended", why: "no-port", detail: failure.detail };
      }
    }
  }

  #become(state: SerialLogPart): void {
    const isSame = (part: SerialLogPart) =>
      part.kind === "paused" &&
      state.kind === "paused" &&
      // While somebody flashes, the port is busy.
      (part.why === state.why || (part.why === "flash" && state.why === "busy"));
    if (this.#state !== undefined && isSame(this.#state)) return;
    this.#state = state;
    this.#tell(state);
  }

  #tell(part: SerialLogPart): void {
    for (const { answer } of this.#readers.values()) answer(part);
  }

  /** Invariant 2. */
  async #endLeases(): Promise<void> {
    const { clock } = this.#options;
    while (await clock.pause(lookMs, this.#over.signal)) {
      const now = clock.monotonic();
      for (const [reader, { until }] of this.#readers) if (until < now) this.leave(reader);
    }
  }
}

/** Invariant 3. */
class GatheredLines {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #tell: (part: SerialLogPart) => void;
  #lines: string[] = [];
  #bytes = 0;
  #leftOut = 0;
  #second = 0;
  #bytesOfSecond = 0;
  #isWaiting = false;

  /** @param signal ends its timer */
  constructor(clock: Clock, signal: AbortSignal, tell: (part: SerialLogPart) => void) {
    this.#clock = clock;
    this.#signal = signal;
    this.#tell = tell;
  }

  add(line: string): void {
    const bytes = Buffer.byteLength(line) + 1;
    const second = Math.floor(this.#clock.monotonic() / 1000);
    if (second !== this.#second) [this.#second, this.#bytesOfSecond] = [second, 0];
    if (this.#bytesOfSecond + bytes > bytesPerSecondMax) {
      // The number stands before the lines that came after.
      if (this.#leftOut === 0) this.flush();
      this.#leftOut += 1;
    } else {
      this.#bytesOfSecond += bytes;
      if (this.#bytes + bytes > serialPartBytes || this.#lines.length === serialLinesMax) this.flush();
      this.#lines.push(line);
      this.#bytes += bytes;
    }
    void this.#flushSoon();
  }

  flush(): void {
    if (this.#lines.length === 0 && this.#leftOut === 0) return;
    this.#tell({ v: 1, kind: "lines", lines: this.#lines, leftOut: this.#leftOut });
    [this.#lines, this.#bytes, this.#leftOut] = [[], 0, 0];
  }

  async #flushSoon(): Promise<void> {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    await this.#clock.pause(gatherMs, this.#signal);
    this.#isWaiting = false;
    this.flush();
  }
}
