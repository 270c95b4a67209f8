import { expect, test } from "vitest";
import { type Attempt, type JobHandler, LaneWorker, type LaneWorkerOptions } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { memorySpool, type ResultSpool } from "#actor/result-spool.ts";
import { WireError } from "#protocol/errors.ts";
import type { Lane } from "#protocol/job.ts";
import { leaseGiveUpMs, presenceBeatMs } from "#protocol/limits.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { built, chainNumber, flashed, statementOf } from "#test/support/farm-builders.ts";
import { compileDispatch, LaneBench, uploadDispatch } from "#test/support/lane-bench.ts";

interface Work {
  readonly dispatch: Dispatch;
  readonly attempt: Attempt;
  finish(result: JobResult): void;
}

/** A worker whose handler does nothing until the test says how the work ends. */
function workerOn(bench: LaneBench, lane: Lane, options: Partial<LaneWorkerOptions> & { slots?: number } = {}) {
  const work: Work[] = [];
  const handler: JobHandler = (dispatch, attempt) => {
    const { promise, resolve } = Promise.withResolvers<JobResult>();
    work.push({ dispatch, attempt, finish: resolve });
    attempt.signal.addEventListener("abort", () => resolve({ kind: "stopped" }));
    return promise;
  };
  const { source, link, clock } = bench;
  const identity = bench.identity(lane, options.slots);
  const worker = new LaneWorker({
    identity,
    source,
    link,
    clock,
    handler,
    spool: memorySpool(),
    log: silentLog,
    ...options,
  });
  return { worker, work };
}

async function started(lane: Lane, options: Parameters<typeof workerOn>[2] = {}) {
  const bench = new LaneBench();
  const { worker, work } = workerOn(bench, lane, options);
  await worker.start();
  await bench.pass(0);
  return { bench, worker, work };
}

/** Stops a worker while the simulated time goes on. */
async function stopped(bench: LaneBench, worker: LaneWorker): Promise<void> {
  const stopping = worker.stop();
  await bench.pass(0);
  await stopping;
}

test("invariant 1: nothing runs before the claim is answered with go", async () => {
  const { bench, work } = await started("compile");
  const claim = Promise.withResolvers<{ v: 1; verdict: "go" }>();
  bench.answer = () => claim.promise;
  await bench.hand(compileDispatch(1));
  expect([bench.asks("claim"), work.length, bench.done]).toEqual([1, 0, 0]);
  claim.resolve({ v: 1, verdict: "go" });
  await bench.pass(0);
  expect([work.length, bench.done]).toEqual([1, 1]);
});

test("invariant 1: a claim that is dropped, or that nobody answers in time, runs nothing and reports nothing", async () => {
  const { bench, work } = await started("compile");
  bench.answer = () => ({ v: 1, verdict: "drop" });
  await bench.hand(compileDispatch(1));
  bench.isUp = false;
  await bench.hand(compileDispatch(2));
  await bench.pass(leaseGiveUpMs + 1_000);
  bench.isUp = true;
  await bench.pass(5_000);
  expect([work.length, bench.asks("report"), bench.done, bench.holding]).toEqual([0, 0, 2, 0]);
});

test("invariant 1: a go that comes after 60 % of the lease is worth nothing", async () => {
  const { bench, work } = await started("compile");
  const claim = Promise.withResolvers<{ v: 1; verdict: "go" }>();
  bench.answer = () => claim.promise;
  await bench.hand(compileDispatch(1));
  await bench.pass(leaseGiveUpMs);
  claim.resolve({ v: 1, verdict: "go" });
  await bench.pass(0);
  expect(work).toEqual([]);
});

test("invariant 1: the first byte waits for the flash claim, and its go grows old counted from the question", async () => {
  const { bench, work } = await started("upload");
  await bench.hand(uploadDispatch(1));
  const { attempt } = work[0]!;
  expect(attempt.mayStart()).toBe(false);
  const answer = Promise.withResolvers<{ v: 1; verdict: "go" }>();
  bench.answer = () => answer.promise;
  const claiming = attempt.claimFlash();
  await bench.pass(leaseGiveUpMs - 1);
  expect(attempt.mayStart()).toBe(false);
  answer.resolve({ v: 1, verdict: "go" });
  expect(await claiming).toBe("go");
  expect(attempt.mayStart()).toBe(true);
  await bench.pass(1);
  expect(attempt.mayStart()).toBe(false);
});

test("invariant 1: a flash claim is dropped, or cut off when the coordinator is away for too long", async () => {
  const { bench, work } = await started("upload", { slots: 2 });
  await bench.hand(uploadDispatch(1));
  await bench.hand(uploadDispatch(2));
  bench.answer = () => ({ v: 1, verdict: "drop" });
  expect(await work[0]!.attempt.claimFlash()).toBe("drop");
  bench.isUp = false;
  const claiming = work[1]!.attempt.claimFlash();
  await bench.pass(leaseGiveUpMs + 1_000);
  expect(await claiming).toBe("cut-off");
  expect(work[1]!.attempt.mayStart()).toBe(false);
});

test("invariant 2: the second delivery of an attempt in hand is done with at once and changes nothing", async () => {
  const { bench, work } = await started("compile", { slots: 2 });
  await bench.hand(compileDispatch(1));
  await bench.hand(compileDispatch(1));
  expect([work.length, bench.asks("claim"), bench.done, bench.holding]).toEqual([1, 1, 2, 1]);
  await bench.hand(compileDispatch(1, 2));
  expect([work.length, bench.asks("claim"), bench.holding]).toEqual([2, 2, 2]);
});

test("invariant 3: a result is on disk before it is reported, and stays there until it is noted", async () => {
  const spool = memorySpool();
  const { bench, work } = await started("compile", { spool });
  const onDisk: number[] = [];
  await bench.hand(compileDispatch(1));
  bench.answer = async () => {
    onDisk.push((await spool.all()).length);
    return { v: 1, verdict: "noted" };
  };
  bench.isUp = false;
  work[0]!.finish(built());
  await bench.pass(1_000);
  expect(await spool.all()).toMatchObject([{ chain: chainNumber(1), attempt: 1, result: built() }]);
  bench.isUp = true;
  await bench.pass(1_000);
  expect(onDisk).toEqual([1]);
  expect(await spool.all()).toEqual([]);
});

test("invariant 3: what the former boot could not report is reported before the first statement", async () => {
  const spool = memorySpool();
  await spool.write({ chain: chainNumber(1), job: "compile", attempt: 2, result: built() });
  const bench = new LaneBench();
  const { worker } = workerOn(bench, "compile", { spool });
  bench.isUp = false;
  const starting = worker.start();
  await bench.pass(3_000);
  expect(bench.announced).toEqual([]);
  bench.isUp = true;
  await bench.pass(1_000);
  await starting;
  expect(bench.asked.at(-1)).toMatchObject({ kind: "report", attempt: 2, result: built() });
  expect(bench.announced.length).toBeGreaterThan(0);
  expect(await spool.all()).toEqual([]);
});

test("invariant 4: an attempt is in every statement from its delivery until its result is noted", async () => {
  const { bench, work } = await started("compile");
  const before = bench.announced.length;
  await bench.hand(compileDispatch(1));
  bench.isUp = false;
  work[0]!.finish(built());
  await bench.pass(3 * presenceBeatMs);
  const held = { chain: chainNumber(1), job: "compile", attempt: 1 };
  for (const { holding, idleSince } of bench.announced.slice(before)) {
    expect([holding, idleSince]).toEqual([[held], null]);
  }
  expect(bench.announced.length).toBeGreaterThan(before + 2);
  bench.isUp = true;
  await bench.pass(200);
  expect(bench.announced.at(-1)).toMatchObject({ holding: [], idleSince: bench.clock.now() });
});

test("invariant 5: a stop order ends an attempt, and its end is reported", async () => {
  const { bench, work } = await started("compile");
  await bench.hand(compileDispatch(1));
  await bench.stop(compileDispatch(1, 2));
  expect(work[0]!.attempt.signal.aborted).toBe(false);
  await bench.stop(compileDispatch(1));
  expect(work[0]!.attempt.signal.aborted).toBe(true);
  expect(bench.asked.at(-1)).toMatchObject({ kind: "report", result: { kind: "stopped" } });
});

test("invariant 5: a stop order does not touch a flash that was claimed", async () => {
  const { bench, work } = await started("upload");
  await bench.hand(uploadDispatch(1));
  expect(await work[0]!.attempt.claimFlash()).toBe("go");
  await bench.stop(uploadDispatch(1));
  expect(work[0]!.attempt.signal.aborted).toBe(false);
  work[0]!.finish(flashed);
  await bench.pass(0);
  expect(bench.asked.at(-1)).toMatchObject({ kind: "report", result: flashed });
});

test("invariant 6: without contact for 60 % of the lease the work ends, except a claimed flash", async () => {
  const { bench, work } = await started("upload", { slots: 2 });
  await bench.hand(uploadDispatch(1));
  await bench.hand(uploadDispatch(2));
  expect(await work[1]!.attempt.claimFlash()).toBe("go");
  bench.isUp = false;
  await bench.pass(leaseGiveUpMs - presenceBeatMs);
  expect(work.map(({ attempt }) => attempt.signal.aborted)).toEqual([false, false]);
  await bench.pass(2 * presenceBeatMs);
  expect(work.map(({ attempt }) => attempt.signal.aborted)).toEqual([true, false]);
});

test("invariant 6: a short outage ends nothing", async () => {
  const { bench, work } = await started("compile");
  await bench.hand(compileDispatch(1));
  for (let i = 0; i < 5; i++) {
    bench.isUp = false;
    await bench.pass(leaseGiveUpMs - 2 * presenceBeatMs);
    bench.isUp = true;
    await bench.pass(2 * presenceBeatMs);
  }
  expect(work[0]!.attempt.signal.aborted).toBe(false);
});

test("invariant 7: a worker that stops offers no slots, ends builds, and speaks until its last flash has ended", async () => {
  const { bench, worker, work } = await started("upload", { slots: 2 });
  await bench.hand(uploadDispatch(1));
  await bench.hand(uploadDispatch(2));
  expect(await work[0]!.attempt.claimFlash()).toBe("go");
  const stopping = worker.stop();
  await bench.pass(0);
  expect(work.map(({ attempt }) => attempt.signal.aborted)).toEqual([false, true]);
  const before = bench.announced.length;
  await bench.pass(5 * presenceBeatMs);
  expect(bench.announced.length).toBe(before + 5);
  expect(bench.announced.at(-1)).toMatchObject({ slots: 0, idleSince: null, holding: [{ chain: chainNumber(1) }] });
  work[0]!.finish(flashed);
  await bench.pass(0);
  await stopping;
  expect(bench.asked.at(-1)).toMatchObject({ kind: "report", result: flashed });
  const after = bench.announced.length;
  await bench.pass(10 * presenceBeatMs);
  expect(bench.announced.length).toBe(after);
});

const idleAndStoring = ({ announced }: LaneBench) => {
  const { idleSince, holding } = announced.at(-1)!;
  return [idleSince, holding.map(({ isStoring }) => isStoring === true)];
};

test("invariant 8: a slot is announced idle as soon as its work has released it, and what is held stays held", async () => {
  const { bench, work } = await started("compile");
  await bench.hand(compileDispatch(1));
  expect(idleAndStoring(bench)).toEqual([null, [false]]);
  await work[0]!.attempt.release();
  expect(idleAndStoring(bench)).toEqual([bench.clock.now(), [true]]);
  await bench.hand(compileDispatch(2));
  expect(idleAndStoring(bench)).toEqual([null, [true, false]]);
  expect(bench.asks("report")).toBe(0);
  work[0]!.finish(built());
  await bench.pass(0);
  expect(bench.asked.at(-1)).toMatchObject({ kind: "report", chain: chainNumber(1), result: built() });
  expect(idleAndStoring(bench)).toEqual([null, [false]]);
});

/** Releases slots in this order, and notes which are free. */
function releasing(work: readonly Work[], order: readonly number[]): number[] {
  const free: number[] = [];
  for (const n of order) void work[n]!.attempt.release().then(() => free.push(n));
  return free;
}

test("invariant 8: no more jobs than slots have released theirs, and the next does when one of them has ended", async () => {
  const { bench, work } = await started("compile");
  for (const n of [1, 2, 3]) await bench.hand(compileDispatch(n));
  const free = releasing(work, [1, 0, 2]);
  await bench.pass(0);
  expect([free, idleAndStoring(bench)]).toEqual([[1], [null, [false, true, false]]]);
  work[1]!.finish(built());
  await bench.pass(0);
  expect([free, idleAndStoring(bench)]).toEqual([
    [1, 0],
    [null, [true, false]],
  ]);
  work[0]!.finish(built());
  await bench.pass(0);
  expect([free, idleAndStoring(bench)]).toEqual([
    [1, 0, 2],
    [bench.clock.now(), [true]],
  ]);
});

test("invariant 8: whoever waits to release its slot waits until it is stopped, and lets the next one pass", async () => {
  const { bench, work } = await started("compile");
  for (const n of [1, 2, 3]) await bench.hand(compileDispatch(n));
  const free = releasing(work, [0, 1, 2]);
  await bench.stop(compileDispatch(2));
  expect([free, idleAndStoring(bench)]).toEqual([
    [0, 1],
    [null, [true, false]],
  ]);
  work[0]!.finish(built());
  await bench.pass(0);
  expect([free, idleAndStoring(bench)]).toEqual([
    [0, 1, 2],
    [bench.clock.now(), [true]],
  ]);
});

test("invariant 8: a stop order, a lost link and a shutdown end a job that has released its slot", async () => {
  const released = async () => {
    const one = await started("compile");
    await one.bench.hand(compileDispatch(1));
    const { attempt } = one.work[0]!;
    await attempt.release();
    return { ...one, signal: attempt.signal };
  };
  const ordered = await released();
  await ordered.bench.stop(compileDispatch(1));
  expect(ordered.signal.aborted).toBe(true);
  expect(ordered.bench.asked.at(-1)).toMatchObject({ kind: "report", result: { kind: "stopped" } });
  const cut = await released();
  cut.bench.isUp = false;
  await cut.bench.pass(leaseGiveUpMs + presenceBeatMs);
  expect(cut.signal.aborted).toBe(true);
  const shut = await released();
  await stopped(shut.bench, shut.worker);
  expect(shut.signal.aborted).toBe(true);
  expect(shut.bench.announced.at(-1)).toMatchObject({ slots: 0, idleSince: null });
});

test("a handler that throws is a failed job, not a dead worker", async () => {
  const handler: JobHandler = async () => {
    throw new Error("a bug");
  };
  const { bench } = await started("compile", { handler });
  await bench.hand(compileDispatch(1));
  const failure = { kind: "internal", detail: "a bug" };
  expect(bench.asked.at(-1)).toMatchObject({ kind: "report", result: { kind: "failed", failure } });
  expect(bench.holding).toBe(0);
});

test("a result that cannot be kept, or an answer that cannot be understood, loses its attempt and nothing else", async () => {
  const full: ResultSpool = { ...memorySpool(), write: () => Promise.reject(new Error("no space left on device")) };
  const { bench, work } = await started("upload", { slots: 3, spool: full });
  for (const n of [1, 2]) await bench.hand(uploadDispatch(n));
  work[0]!.finish(flashed);
  await bench.pass(0);
  bench.answer = () => Promise.reject(new WireError("not-a-message", "verdict: invalid"));
  await bench.hand(uploadDispatch(3));
  expect([work.length, bench.asks("report")]).toEqual([2, 0]);
  expect(bench.announced.at(-1)?.holding).toMatchObject([{ chain: chainNumber(2) }]);
  expect(work[1]!.attempt.signal.aborted).toBe(false);
});

test("new capabilities are announced at once", async () => {
  const { bench, worker } = await started("compile");
  const { compile } = statementOf("a", "compile", { esphomeVersions: ["2026.10.0"] });
  worker.setCapabilities({ compile: compile! });
  expect(bench.announced.at(-1)).toMatchObject({ compile });
});

test("stopped before it starts, twice, or while it starts, a worker ends stopped and holds nothing", async () => {
  const order: readonly ((worker: LaneWorker) => Promise<unknown>)[] = [
    (worker) => worker.stop().then(() => worker.start()),
    (worker) => worker.start().then(() => Promise.all([worker.stop(), worker.stop()])),
    (worker) => Promise.all([worker.start(), worker.stop()]),
    (worker) => Promise.all([worker.stop(), worker.start(), worker.stop()]),
  ];
  for (const run of order) {
    const bench = new LaneBench();
    const { worker } = workerOn(bench, "compile");
    const running = run(worker);
    await bench.pass(presenceBeatMs);
    await running;
    const said = bench.announced.length;
    await bench.hand(compileDispatch(1));
    await bench.pass(10 * presenceBeatMs);
    expect([bench.listeners, bench.announced.length - said, bench.asks("claim")]).toEqual([0, 0, 0]);
  }
});

test("stopped while the former boot's results cannot be reported, a worker leaves them on disk", async () => {
  const spool: ResultSpool = memorySpool();
  await spool.write({ chain: chainNumber(1), job: "compile", attempt: 1, result: built() });
  const bench = new LaneBench();
  bench.isUp = false;
  const { worker } = workerOn(bench, "compile", { spool });
  const starting = worker.start();
  await bench.pass(1_000);
  await stopped(bench, worker);
  await bench.pass(1_000);
  await starting;
  expect(await spool.all()).toHaveLength(1);
  expect(bench.announced).toEqual([]);
});
