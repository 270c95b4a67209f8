/**
 * The two measurements, the same code for every contender.
 *
 * 1. Every chain of a run must go through both lanes exactly once; anything else ends the benchmark.
 * 2. A run ends by itself: after `runMsMax` it is given up, and the benchmark with it.
 */
import { InvariantError, UnavailableError } from "#protocol/errors.ts";
import { systemClock } from "#actor/clock.ts";
import type { ChainMarks, Contender, Lanes } from "#bench/contender.ts";

/** The slowest honest run takes about ten seconds; more means that something hangs. */
const runMsMax = 60_000;
/** Lets workers that have just been opened reach their waiting state, and what came before them die away. */
const settleMs = 50;
/** Between two chains of a latency run: the second one's request must not queue behind the first one's last acknowledgement. */
const gapMs = 2;

export interface LatencySamples {
  /** From just before the request to the first statement of the compile handler. */
  readonly requestToCompileMs: readonly number[];
  /** From the last statement of the compile handler to the first of the upload handler. */
  readonly compileToUploadMs: readonly number[];
}

/** One chain at a time through idle lanes of one slot. @throws UnavailableError when the run hangs or the signal fires */
export function latencyRun(contender: Contender, count: number, signal: AbortSignal): Promise<LatencySamples> {
  const requestToCompileMs: number[] = [];
  const compileToUploadMs: number[] = [];
  let requestedAt = 0;
  let compileDoneAt = 0;
  let finished = Promise.withResolvers<void>();
  const marks: ChainMarks = {
    compileStarted: () => requestToCompileMs.push(performance.now() - requestedAt),
    compileDone: () => (compileDoneAt = performance.now()),
    uploadStarted: () => compileToUploadMs.push(performance.now() - compileDoneAt),
    chainFinished: () => finished.resolve(),
  };
  return withLanes(contender, { slots: 1, count, marks, signal }, async (lanes) => {
    for (let chain = 0; chain < count; chain += 1) {
      await systemClock.pause(gapMs);
      finished = Promise.withResolvers<void>();
      requestedAt = performance.now();
      await Promise.all([lanes.request([chain]), finished.promise]);
    }
    return { requestToCompileMs, compileToUploadMs };
  });
}

export interface Load {
  readonly slots: number;
  readonly chains: number;
}

/**
 * All chains requested at once; from the request to the end of the last one.
 * @returns chains per second. @throws UnavailableError when the run hangs or the signal fires
 */
export function throughputRun(contender: Contender, load: Load, signal: AbortSignal): Promise<number> {
  const { slots, chains } = load;
  const finished = Promise.withResolvers<void>();
  let left = chains;
  const marks: ChainMarks = {
    compileStarted: () => undefined,
    compileDone: () => undefined,
    uploadStarted: () => undefined,
    chainFinished: () => {
      left -= 1;
      if (left === 0) finished.resolve();
    },
  };
  return withLanes(contender, { slots, count: chains, marks, signal }, async (lanes) => {
    const startedAt = performance.now();
    await Promise.all([lanes.request(Array.from({ length: chains }, (_, chain) => chain)), finished.promise]);
    return chains / ((performance.now() - startedAt) / 1000);
  });
}

interface Run {
  readonly slots: number;
  readonly count: number;
  readonly marks: ChainMarks;
  readonly signal: AbortSignal;
}

async function withLanes<T>(contender: Contender, run: Run, work: (lanes: Lanes) => Promise<T>): Promise<T> {
  const { marks, steps } = countSteps(run.marks, run.count);
  const limit = AbortSignal.any([run.signal, AbortSignal.timeout(runMsMax)]);
  const what = `${contender.name}, ${run.count} chains on ${run.slots} slots`;
  const lanes = await within(limit, what, contender.open(run.slots, marks));
  let result: T;
  try {
    await systemClock.pause(settleMs);
    result = await within(limit, what, work(lanes));
  } finally {
    await within(AbortSignal.timeout(runMsMax), `${what}: closing its lanes`, lanes.close());
  }
  // Invariant 1, after the lanes are closed: a job that was handed out twice may come late.
  const wrong = steps.findIndex((count) => count !== stepsPerChain);
  if (wrong >= 0) throw new InvariantError("chain-not-once", `${what}: chain ${wrong} made ${steps[wrong]} steps`);
  return result;
}

const stepsPerChain = 4;

/** Counts each call on its way to `marks`; a chain that repeats a step or takes one out of order throws. */
function countSteps(marks: ChainMarks, count: number): { marks: ChainMarks; steps: Uint8Array } {
  const steps = new Uint8Array(count);
  const counted = (step: number, call: (chain: number) => void) => (chain: number) => {
    call(chain);
    if (steps[chain] === step) steps[chain] = step + 1;
    // Any other count than `stepsPerChain` is reported at the end of the run; 255 stays.
    else steps[chain] = 255;
  };
  return {
    steps,
    marks: {
      compileStarted: counted(0, marks.compileStarted),
      compileDone: counted(1, marks.compileDone),
      uploadStarted: counted(2, marks.uploadStarted),
      chainFinished: counted(3, marks.chainFinished),
    },
  };
}

/** The outcome of `work`, or UnavailableError when the signal fires first; `work` itself is then left to its fate. */
async function within<T>(signal: AbortSignal, what: string, work: Promise<T>): Promise<T> {
  const ended = Promise.withResolvers<never>();
  const end = () =>
    ended.reject(new UnavailableError("run-ended", `${what}: interrupted, or not done in ${runMsMax / 1000} s`));
  if (signal.aborted) end();
  signal.addEventListener("abort", end, { once: true });
  try {
    return await Promise.race([work, ended.promise]);
  } finally {
    signal.removeEventListener("abort", end);
  }
}
