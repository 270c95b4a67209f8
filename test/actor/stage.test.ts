/** A stage ends by its work, by its job's signal or by its limits, and by nothing else. */
import { beforeEach, expect, test } from "vitest";
import { inStage, type StageEnd, type StageOptions, type StageWatch } from "#actor/stage.ts";
import { stageLimits } from "#protocol/limits.ts";
import { startAt } from "#test/support/farm-builders.ts";
import { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import { SimulatedTime } from "#test/simulation/simulated-time.ts";

const limits = { ...stageLimits, fetching: { silenceMs: 1_000, totalMs: 10_000 }, unpacking: { totalMs: 5_000 } };
let time: SimulatedTime;
let stop: AbortController;
let end: StageEnd<object> | undefined;
let watch: StageWatch;
let work: PromiseWithResolvers<object | undefined>;

beforeEach(() => {
  time = new SimulatedTime();
  stop = new AbortController();
  work = Promise.withResolvers();
  end = undefined;
});

const pass = (ms: number) => time.run(time.now + ms, () => false);

async function start(over: Partial<StageOptions> = {}): Promise<void> {
  const { clock } = new SimulatedProcess(time, "agent", () => startAt + time.now);
  const options: StageOptions = { stage: "fetching", limits, clock, signal: stop.signal, ...over };
  const running = inStage(options, (given) => {
    watch = given;
    return work.promise;
  });
  running.then(
    (value) => (end = value),
    () => undefined,
  );
  await pass(0);
}

const deadline = (stage: string, limit: string, limitMs: number) => ({
  kind: "failed",
  failure: { kind: "deadline", stage, limit, limitMs, effect: "none" },
});

test("work that comes to its result is done, and leaves no timer behind", async () => {
  await start();
  await pass(999);
  work.resolve({ is: "here" });
  await pass(0);
  expect(end).toEqual({ kind: "done", value: { is: "here" } });
  await pass(60_000);
  expect(watch.signal.aborted).toBe(false);
});

test("silence counts from the last sign of life, and all of it has its own limit", async () => {
  await start();
  for (let moves = 0; moves < 9; moves++) {
    await pass(999);
    watch.moved();
  }
  await pass(999);
  expect(end).toBeUndefined();
  await pass(1);
  expect(end).toEqual(deadline("fetching", "silence", 1_000));
  expect(watch.signal.aborted).toBe(true);

  await start();
  for (let moves = 0; moves < 20; moves++) {
    watch.moved();
    await pass(500);
  }
  expect(end).toEqual(deadline("fetching", "total", 10_000));
});

test("a stage that has nothing to say has no silence", async () => {
  await start({ stage: "unpacking" });
  await pass(4_999);
  expect(end).toBeUndefined();
  await pass(1);
  expect(end).toEqual(deadline("unpacking", "total", 5_000));
});

test("the job's signal ends it as stopped, also before it has begun", async () => {
  await start();
  stop.abort();
  await pass(0);
  expect(end).toEqual({ kind: "stopped" });
  expect(watch.signal.aborted).toBe(true);
  let isCalled = false;
  const { clock } = new SimulatedProcess(time, "agent", () => startAt);
  const late = inStage({ stage: "fetching", limits, clock, signal: stop.signal }, async () => {
    isCalled = true;
    return {};
  });
  expect(await late).toEqual({ kind: "stopped" });
  expect(isCalled).toBe(false);
});

test("work that its signal has ended says so with nothing", async () => {
  await start();
  stop.abort();
  work.resolve(undefined);
  await pass(0);
  expect(end).toEqual({ kind: "stopped" });
});

test("work that has started processes is waited for, and its late result does not undo the limit", async () => {
  await start({ isAwaited: true });
  await pass(5_000);
  expect(watch.signal.aborted).toBe(true);
  expect(end).toBeUndefined();
  work.resolve({ is: "late" });
  await pass(0);
  expect(end).toEqual(deadline("fetching", "silence", 1_000));
});

test("a stop is answered by what the work says that it waited for", async () => {
  await start({ isAwaited: true });
  stop.abort();
  await pass(5_000);
  expect(end).toBeUndefined();
  work.resolve({ ok: false, aborted: true });
  await pass(0);
  expect(end).toEqual({ kind: "done", value: { ok: false, aborted: true } });
});

test("what the work throws is thrown, unless it was left behind", async () => {
  const { clock } = new SimulatedProcess(time, "agent", () => startAt + time.now);
  const options: StageOptions = { stage: "fetching", limits, clock, signal: stop.signal };
  await expect(inStage(options, () => Promise.reject(new RangeError("boom")))).rejects.toThrow("boom");
  await start();
  await pass(1_000);
  expect(end).toMatchObject({ kind: "failed" });
  work.reject(new RangeError("nobody hears this"));
  await pass(0);
});
