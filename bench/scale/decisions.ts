/** How long the core takes for what comes to it all day, when it has much to do. */
import { setImmediate } from "node:timers/promises";
import { queueDepth } from "#coordinator/core/queries.ts";
import { agents, BusyCore } from "#bench/scale/busy-core.ts";

/** Code that has not been compiled yet is not what is measured. */
const warmUpCycles = 50;
/** As many events as the coordinator takes at once, and the cycles for which they come once. */
const groupMax = 500;
const cyclesPerGroup = 50;

export interface Decisions {
  /** Times of single transitions in ms, by what they were about. */
  readonly ms: ReadonlyMap<string, readonly number[]>;
  /** At first. */
  readonly queued: number;
  /** At least, at the end of any cycle. */
  readonly running: number;
}

/**
 * A cycle is a build that ends, a flash that ends, the jobs that are placed for them, a new request, four statements and a beat: it
 * leaves about as much queued and running as there was. Groups of events that waited together come after that.
 */
export async function measureDecisions(cycles: number, signal: AbortSignal): Promise<Decisions> {
  const ms = new Map<string, number[]>();
  let isMeasuring = false;
  const core = new BusyCore(Date.UTC(2026, 9, 1), (kind, took) => {
    if (!isMeasuring) return;
    const ofKind = ms.get(kind);
    if (ofKind === undefined) ms.set(kind, [took]);
    else ofKind.push(took);
  });
  core.fill();
  const queued = queueDepth(core.farm);
  let running = core.running;
  for (let cycle = 0; cycle < warmUpCycles + cycles; cycle += 1) {
    isMeasuring = cycle >= warmUpCycles;
    // Between two of them whoever has had enough is heard.
    await setImmediate(undefined, { signal });
    core.reportBuild();
    core.reportFlash();
    while (core.claim());
    core.archive();
    core.submit(1);
    for (let speaker = 0; speaker < 4; speaker += 1) core.state((cycle * 4 + speaker) % agents);
    core.passTime();
    // A slot may wait for a job that will be done sooner elsewhere.
    running = Math.min(running, core.running);
  }
  for (let group = 0; group < cycles / cyclesPerGroup; group += 1) {
    core.stateTogether((group * 100) % groupMax, groupMax);
    core.reportTogether(groupMax / 2);
    core.claimTogether();
    core.archive();
    core.submit(groupMax / 2);
  }
  return { ms, queued, running };
}
