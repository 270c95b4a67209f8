import { expect, test } from "vitest";
import { InvariantError, UnavailableError, UsageError } from "#protocol/errors.ts";
import { leadTtlMs } from "#protocol/limits.ts";
import { LeadershipBench, type Rival } from "#test/support/leadership-bench.ts";

/** What a standby needs at most after the lease has expired. */
const takeOverMs = 600;

/** One that leads, and one that stands by. */
async function rivals(): Promise<{ bench: LeadershipBench; first: Rival; second: Rival }> {
  const bench = new LeadershipBench();
  const [first, second] = [bench.rival(), bench.rival()];
  await first.leadership.start();
  await bench.pass(100);
  await second.leadership.start();
  await bench.pass(100);
  return { bench, first, second };
}

/** What happened since, without the questions of the standby. */
function after(bench: LeadershipBench, from: number, n: number): readonly string[] {
  return bench.trace.filter((what, index) => bench.at[index]! >= from && what.startsWith(`${n} `));
}

test("one leads, the other stands by and says once who leads", async () => {
  const { bench, first, second } = await rivals();
  await bench.pass(60_000);
  expect([first.reigns.length, second.reigns.length]).toEqual([1, 0]);
  expect(first.reign.lead.isLeading()).toBe(true);
  expect(second.said).toEqual(["standing by; host/1 leads"]);
});

test("when the one that leads dies, the standby leads within the time of the lease and half a second", async () => {
  const { bench, first, second } = await rivals();
  await bench.pass(10_000);
  const diedAt = bench.time.now;
  first.process.kill();
  await bench.pass(leadTtlMs + takeOverMs);
  expect(second.reign.lead.isLeading()).toBe(true);
  expect(bench.lastAt("2 starts")! - diedAt).toBeLessThan(leadTtlMs + takeOverMs);
});

test("invariant 1: one that was paused stops its reign before anything else, and becomes the standby", async () => {
  const { bench, first, second } = await rivals();
  await bench.pass(10_000);
  const pausedAt = bench.time.now;
  first.process.pauseFor(60_000);
  let wasLeading: boolean | undefined;
  first.process.deliver(() => (wasLeading = first.reign.lead.isLeading()));
  await bench.pass(120_000);
  expect(wasLeading).toBe(false);
  expect(after(bench, pausedAt, 1).slice(0, 4)).toEqual(["1 stops", "1 has stopped", "1 takes", "1 looks"]);
  expect(bench.lastAt("1 stops")).toBe(pausedAt + 60_000);
  expect([first.reigns.length, second.reigns.length]).toEqual([1, 1]);
  expect(second.reign.lead.isLeading()).toBe(true);
  expect(first.said.at(-1)).toBe("standing by; host/2 leads");
});

test("invariant 1: one that was paused while its renewal was answered does not lead on", async () => {
  const { bench, first } = await rivals();
  const renewals = bench.count("1 renews");
  while (bench.count("1 renews") === renewals) await bench.pass(0.5);
  first.process.pauseFor(leadTtlMs);
  await bench.pass(leadTtlMs);
  expect(first.reign.lead.isLeading()).toBe(false);
  expect(bench.trace.at(-1)).toBe("1 has stopped");
});

test("invariant 1: one that was paused between its question and the answer begins no reign", async () => {
  const bench = new LeadershipBench();
  const [first, second] = [bench.rival(), bench.rival()];
  await first.leadership.start();
  first.process.pauseFor(10_000);
  await second.leadership.start();
  await bench.pass(60_000);
  expect([first.reigns.length, second.reigns.length]).toEqual([0, 1]);
});

test("invariant 2: the lease is asked for again only after a reign that is slow to end has ended", async () => {
  const { bench, first } = await rivals();
  first.stopMs = 20_000;
  bench.key = undefined;
  await bench.pass(1_500);
  const stoppedAt = bench.lastAt("1 stops")!;
  await bench.pass(60_000);
  expect(after(bench, stoppedAt, 1).slice(0, 3)).toEqual(["1 stops", "1 has stopped", "1 takes"]);
});

test("a lease that the server has lost ends the reign, and goes to the one that asks first", async () => {
  const { bench, first, second } = await rivals();
  bench.key = undefined;
  await bench.pass(3_000);
  expect(bench.count("1 has stopped")).toBe(1);
  expect([first, second].map(({ reigns }) => reigns.length)).toEqual([1, 1]);
  expect(second.reign.lead.isLeading()).toBe(true);
});

test("a reign that was deposed is followed by standing by", async () => {
  const { bench, first, second } = await rivals();
  const deposedAt = bench.time.now;
  first.reign.depose();
  await bench.pass(400);
  expect(after(bench, deposedAt, 1)).toEqual(["1 stops", "1 has stopped"]);
  first.process.kill();
  await bench.pass(leadTtlMs + takeOverMs);
  expect(second.reign.lead.isLeading()).toBe(true);
});

test("a short outage of the server does not end a reign", async () => {
  const { bench, first } = await rivals();
  await bench.pass(5_000);
  first.isCut = true;
  await bench.pass(leadTtlMs - 2_000);
  first.isCut = false;
  await bench.pass(60_000);
  expect(bench.count("1 stops")).toBe(0);
  expect(first.reign.lead.isLeading()).toBe(true);
});

test("one that is cut off stops when its lease is over by the clock, whatever a renewal still waits for", async () => {
  const { bench, first, second } = await rivals();
  await bench.pass(5_000);
  const heldAt = bench.lastAt("1 renews")!;
  first.isCut = true;
  await bench.pass(leadTtlMs + takeOverMs);
  expect(bench.lastAt("1 stops")).toBe(heldAt + leadTtlMs);
  expect(bench.lastAt("2 starts")).toBeGreaterThanOrEqual(heldAt + leadTtlMs);
  expect(second.reign.lead.isLeading()).toBe(true);
  await bench.pass(60_000);
  expect(first.said.filter((words) => words === "standing by; the server is away")).toHaveLength(1);
  first.isCut = false;
  await bench.pass(2_000);
  expect(first.said.at(-1)).toBe("standing by; host/2 leads");
});

test("a standby that is cut off goes on asking", async () => {
  const { bench, first, second } = await rivals();
  second.isCut = true;
  await bench.pass(20_000);
  first.process.kill();
  await bench.pass(20_000);
  expect(second.reigns).toHaveLength(0);
  second.isCut = false;
  await bench.pass(2_000);
  expect(second.reigns).toHaveLength(1);
});

test("a reign that asks for certainty gets it by a renewal of its own", async () => {
  const { bench, first } = await rivals();
  const before = bench.count("1 renews");
  expect(await bench.settled(first.reign.lead.confirm())).toBe(true);
  const both = Promise.all([first.reign.lead.confirm(), first.reign.lead.confirm()]);
  expect(await bench.settled(both)).toEqual([true, true]);
  expect(bench.count("1 renews") - before).toBe(3);
});

test("a reign that asks for certainty hears at once that the lease is lost, and is stopped", async () => {
  const { bench, first, second } = await rivals();
  bench.key = { ...bench.key!, rival: second };
  expect(await bench.settled(first.reign.lead.confirm())).toBe(false);
  expect(first.reign.lead.isLeading()).toBe(false);
  await bench.pass(0);
  expect(bench.trace.at(-1)).toBe("1 has stopped");
  expect(await first.reign.lead.confirm()).toBe(false);
});

test("a reign that asks for certainty during an outage waits for its end, or for that of the lease", async () => {
  const { bench, first } = await rivals();
  first.isCut = true;
  const short = first.reign.lead.confirm();
  await bench.pass(2_000);
  first.isCut = false;
  expect(await bench.settled(short)).toBe(true);
  first.isCut = true;
  expect(await bench.settled(first.reign.lead.confirm())).toBe(false);
});

test("the lease is asked for again only after a renewal that a reign has asked for is answered", async () => {
  const { bench, first } = await rivals();
  first.timeoutMs = 3_000;
  while (bench.lastAt("1 renews") === undefined) await bench.pass(100);
  first.isCut = true;
  await bench.pass(4_500);
  const confirming = first.reign.lead.confirm();
  await bench.pass(1);
  const askedAt = bench.lastAt("1 renews")!;
  await bench.pass(10_000);
  expect(await confirming).toBe(false);
  expect(bench.at[bench.trace.indexOf("1 takes", bench.trace.indexOf("1 stops"))]).toBeGreaterThan(askedAt + 3_000);
});

test("invariant 3: stopped while it leads, it ends its reign, gives the lease up, and the standby leads at once", async () => {
  const { bench, first, second } = await rivals();
  const stoppedAt = bench.time.now;
  first.stopMs = 2 * leadTtlMs;
  await bench.settled(Promise.all([first.leadership.stop(), first.leadership.stop()]));
  await first.leadership.finished();
  const events = after(bench, stoppedAt, 1).filter((what) => what !== "1 renews");
  expect(events).toEqual(["1 stops", "1 has stopped", "1 releases"]);
  expect(second.reigns).toHaveLength(0);
  await bench.pass(takeOverMs);
  expect(second.reign.lead.isLeading()).toBe(true);
  await bench.pass(60_000);
  expect(bench.trace.findLast((what) => what.startsWith("1 "))).toBe("1 releases");
});

test("stopped before it starts, while it asks, while it stands by or while its reign starts, it ends stopped", async () => {
  const orders: readonly ((rival: Rival, bench: LeadershipBench) => Promise<unknown>)[] = [
    ({ leadership }) => leadership.stop().then(() => leadership.start()),
    ({ leadership }) => Promise.all([leadership.stop(), leadership.start(), leadership.stop()]),
    ({ leadership }) => Promise.all([leadership.start(), leadership.stop()]),
    ({ leadership }, bench) => leadership.start().then(() => bench.pass(1).then(() => leadership.stop())),
    ({ leadership }, bench) => leadership.start().then(() => bench.pass(500).then(() => leadership.stop())),
  ];
  for (const order of orders) {
    for (const isFree of [true, false]) {
      const bench = new LeadershipBench();
      const [other, rival] = [bench.rival(), bench.rival()];
      rival.startMs = 2_000;
      if (!isFree) await other.leadership.start();
      await bench.pass(10);
      const ordered = order(rival, bench);
      await bench.pass(10_000);
      await ordered;
      await rival.leadership.finished();
      // Only the last one was stopped when its reign had begun.
      const begun = isFree && order === orders.at(-1) ? 1 : 0;
      expect([bench.count("2 starts"), bench.count("2 has stopped")]).toEqual([begun, begun]);
      expect(bench.key?.rival).toBe(isFree ? undefined : other);
      const events = after(bench, 0, 2).length;
      await bench.pass(60_000);
      expect(after(bench, 0, 2)).toHaveLength(events);
    }
  }
});

test("stopped while the server is away, it ends all the same", async () => {
  const { bench, first } = await rivals();
  first.isCut = true;
  await bench.settled(first.leadership.stop());
  expect(first.said.at(-1)).toBe("the lease could not be given up: it expires");
});

test("a reign that finds the world away is tried again", async () => {
  const { bench, first } = await rivals();
  first.reign.fail(new UnavailableError("away", "the records cannot be read"));
  await bench.pass(1_000);
  expect(first.reigns).toHaveLength(2);
  expect(first.reign.lead.isLeading()).toBe(true);
});

test("what must end the process ends the reign, gives the lease up and is thrown", async () => {
  const { bench, first, second } = await rivals();
  first.reign.fail(new InvariantError("broken", "the farm is broken"));
  await expect(bench.settled(first.leadership.finished())).rejects.toThrow(InvariantError);
  expect(bench.trace.filter((what) => what.startsWith("1 ")).slice(-3)).toEqual([
    "1 stops",
    "1 has stopped",
    "1 releases",
  ]);
  await bench.pass(takeOverMs);
  expect(second.reign.lead.isLeading()).toBe(true);
  await first.leadership.stop();
});

test("a server that cannot carry a lease ends the process, whether it is found while standing by or leading", async () => {
  const { bench, first, second } = await rivals();
  first.failure = new UsageError("nats-server-too-old", "the server is too old");
  second.failure = first.failure;
  await expect(bench.settled(second.leadership.finished())).rejects.toThrow(UsageError);
  await expect(bench.settled(first.leadership.finished())).rejects.toThrow(UsageError);
  expect([bench.count("1 starts"), bench.count("1 has stopped")]).toEqual([1, 1]);
});
