/** What devices say on ports, carried by a real server from real pseudo terminals to whoever reads. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type Clock, poll, systemClock } from "#actor/clock.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { PortId, serialLogBaud } from "#protocol/serial.ts";
import type { Connection } from "#bus/connection.ts";
import { onSerialLogWish, readSerialLogOf, type SerialLogNews } from "#bus/serial-log.ts";
import { Pty } from "#simulator/pty.ts";
import { SerialLogService } from "#upload-agent/serial/log-service.ts";
import { PortOwners } from "#upload-agent/serial/port-owner.ts";
import { SerialPorts } from "#upload-agent/serial/ports.ts";
import { agentNamed } from "#test/support/farm-builders.ts";
import { letGo } from "#test/support/serial-bench.ts";
import { type TestServer, testServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const agent = agentNamed("attic-pi");
const bench = PortId.parse("bench");
const clock = systemClock;

let server: TestServer;
let folder: TemporaryFolder;
let connection: Connection;
let terminal: Pty;
let owners: PortOwners;
let service: SerialLogService;
const readers: Reader[] = [];

beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
});
afterAll(() => server[Symbol.asyncDispose]());

beforeEach(async () => {
  folder = await temporaryFolder();
  terminal = await Pty.open({ onBytes: () => undefined });
  owners = new PortOwners({ folder: folder.path, clock });
  service = await startService();
});

afterEach(async () => {
  await Promise.all(readers.splice(0).map((reader) => reader.end()));
  await service.stop();
  await terminal[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

async function startService(with_: Partial<{ clock: Clock }> = {}): Promise<SerialLogService> {
  const made = new SerialLogService({
    ports: new SerialPorts({ clock, named: new Map([[bench, terminal.path]]), list: async () => [] }),
    owners,
    clock: with_.clock ?? clock,
    onWish: (handle) => onSerialLogWish(connection, agent, handle),
  });
  await made.start();
  return made;
}

/** Somebody who reads, with all that came. */
class Reader {
  readonly news: SerialLogNews[] = [];
  readonly #stop = new AbortController();
  readonly #over: Promise<unknown>;

  constructor(port: string = bench, baud: number = serialLogBaud, over: Connection = connection) {
    readers.push(this);
    this.#over = this.#read(PortId.parse(port), baud, over).catch((error: unknown) => error);
  }

  get lines(): readonly string[] {
    return this.news.flatMap((part) => (part.kind === "lines" ? part.lines : []));
  }

  get leftOut(): number {
    return this.news.reduce((sum, part) => sum + (part.kind === "lines" ? part.leftOut : 0), 0);
  }

  async until(fits: (news: readonly SerialLogNews[]) => boolean): Promise<void> {
    const seen = await poll(clock, { everyMs: 5, withinMs: 10_000 }, () => (fits(this.news) ? true : undefined));
    if (seen === undefined) throw new Error(`only ${JSON.stringify(this.news).slice(0, 1_000)}`);
  }

  async untilLast(part: object): Promise<void> {
    await this.until((news) => news.length > 0);
    await this.until((news) => Object.entries(part).every(([key, value]) => news.at(-1)?.[key as "kind"] === value));
  }

  async untilLine(line: string): Promise<void> {
    await this.until(() => this.lines.includes(line));
  }

  /** @returns what it threw */
  ended(): Promise<unknown> {
    return this.#over;
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#over;
  }

  async #read(port: PortId, baud: number, over: Connection): Promise<void> {
    const reading = { agent, port, baud, clock, signal: this.#stop.signal };
    for await (const part of readSerialLogOf(over, reading)) this.news.push(part);
  }
}

const say = (text: string) => terminal.write(Buffer.from(text));

test("what a device says comes line by line, and the port is free when the reader has left", async () => {
  const reader = new Reader();
  await reader.untilLast({ kind: "opened" });
  say("[I] one\r\n[I] two\r\n");
  await reader.untilLine("[I] two");
  expect(reader.lines).toEqual(["[I] one", "[I] two"]);
  await reader.end();
  const owned = await owners.own(terminal.path, { signal: new AbortController().signal, waitMs: 5_000 });
  expect(owned.kind).toBe("owned");
  await letGo(owned);
});

test("two read one port, and the second one at another rate is told the rate", async () => {
  const [first, second] = [new Reader(), new Reader()];
  await Promise.all([first.untilLast({ kind: "opened" }), second.untilLast({ kind: "opened" })]);
  say("both\n");
  await Promise.all([first.untilLine("both"), second.untilLine("both")]);
  const third = new Reader(bench, 9_600);
  await third.ended();
  expect(third.news).toMatchObject([{ kind: "ended", why: "other-baud", detail: "somebody reads it at 115200 baud" }]);
  await first.end();
  say("one\n");
  await second.untilLine("one");
  expect(first.lines).toEqual(["both"]);
});

test("no more than eight read one port", async () => {
  for (let number = 0; number < 8; number++) await new Reader().untilLast({ kind: "opened" });
  const ninth = new Reader();
  await ninth.ended();
  expect(ninth.news).toMatchObject([{ kind: "ended", why: "too-many" }]);
});

test("whoever flashes gets the port at once, and reading goes on behind it", async () => {
  const reader = new Reader();
  await reader.untilLast({ kind: "opened" });
  const flash = await owners.own(terminal.path, { signal: new AbortController().signal, waitMs: 5_000 });
  await reader.untilLast({ kind: "paused", why: "flash" });
  await letGo(flash);
  await reader.untilLast({ kind: "opened" });
  say("back\n");
  await reader.untilLine("back");
});

test("a port that is not there is said and ends it; one that is pulled out is waited for", async () => {
  const lost = new Reader("spare");
  await lost.ended();
  expect(lost.news).toMatchObject([{ kind: "ended", why: "no-port" }]);
  const reader = new Reader();
  await reader.untilLast({ kind: "opened" });
  await terminal[Symbol.asyncDispose]();
  await reader.untilLast({ kind: "paused", why: "unplugged" });
});

test("a device that floods is cut, and the number of lines that were left out is said", async () => {
  const reader = new Reader();
  await reader.untilLast({ kind: "opened" });
  const long = `${"x".repeat(999)}\n`;
  // 300 lines of a thousand bytes within one second; the test begins anew where the second ends in between.
  say(long.repeat(300));
  await reader.until(() => reader.lines.length + reader.leftOut >= 300);
  if (reader.leftOut === 0) say(long.repeat(300));
  await reader.until(() => reader.leftOut > 0);
  expect(reader.lines.length).toBeGreaterThanOrEqual(200);
});

test("an agent that ends says so, and one that nobody has heard of is no agent", async () => {
  const reader = new Reader();
  await reader.untilLast({ kind: "opened" });
  await service.stop();
  await reader.ended();
  expect(reader.news.at(-1)).toMatchObject({ kind: "ended", why: "agent-ends" });
  const late = new Reader();
  expect(await late.ended()).toBeInstanceOf(UnavailableError);
});

test("a reader that is gone without a word keeps the port for fifteen seconds and no longer", async () => {
  await service.stop();
  let passedMs = 0;
  service = await startService({ clock: { ...clock, monotonic: () => clock.monotonic() + passedMs } });
  const own = await server.connect("reader");
  const reader = new Reader(bench, serialLogBaud, own);
  await reader.untilLast({ kind: "opened" });
  await own.close();
  const isFree = async () =>
    (await owners.own(terminal.path, { signal: new AbortController().signal, waitMs: 10, onAsked: () => undefined }))
      .kind;
  passedMs = 14_000;
  expect(await isFree()).toBe("busy");
  passedMs = 16_000;
  const limits = { everyMs: 20, withinMs: 10_000 };
  expect(await poll(clock, limits, async () => ((await isFree()) === "owned" ? true : undefined))).toBe(true);
});

test("stopping before the start, twice and while it reads leaves nothing behind", async () => {
  const made = new SerialLogService({
    ports: new SerialPorts({ clock, list: async () => [] }),
    owners,
    clock,
    onWish: () => {
      throw new Error("it listens after its end");
    },
  });
  await made.stop();
  await made.start();
  await Promise.all([made.stop(), made.stop()]);
});
