/** The coordinator's process while a thousand agents speak and a bulk passes them. */
import { setTimeout as delay } from "node:timers/promises";
import { UnavailableError } from "#protocol/errors.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { type Child, startChild } from "#bench/child.ts";
import { askFor, untilOnline } from "#bench/farm-questions.ts";
import { type AgentsPlan, agentsOpenWords } from "#bench/scale/agents-plan.ts";
import { figuresOf } from "#bench/scale/process-figures.ts";
import { type StartUp, startMeasured } from "#bench/scale/start-up.ts";
import { installNumber } from "#bench/scale/work.ts";

export const agents = 1_000;
export const queuedAtFirst = 3_000;
/** Half of the agents build and half flash: with jobs of this length a thousand are running until the queue is empty. */
const jobMs = 6_000;
const requestSize = 1_000;
const presentMsMax = 60_000;
const askEveryMs = 50;

export interface LoadPlan {
  readonly url: string;
  /** How long the coordinator is watched from the moment at which uploads have begun. */
  readonly watchMs: number;
  /** Without work, but with all agents: long enough for a round of the history's keeper, a minute after the start. */
  readonly restMs: number;
  readonly profile: string | undefined;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

export interface Watched {
  readonly residentMb: number;
  readonly peakMb: number;
  /** Of one processor. */
  readonly processorShare: number;
  /** Questions for the status, which wait for whatever else the coordinator does. */
  readonly statusMs: readonly number[];
  /** Of those, the ones that nobody has answered in time. */
  readonly unanswered: number;
  /** Jobs in the agents' hands when the watch began, and chains that had not ended. */
  readonly running: number;
  readonly live: number;
}

export interface Load {
  /** Until all agents were known. */
  readonly presentMs: number;
  readonly answeredMs: number;
  readonly busy: Watched;
  /** From the order to the end of its process. */
  readonly endedMs: number;
  /** Started anew amid all that. */
  readonly restart: StartUp;
  readonly resting?: Watched;
}

/** @throws UnavailableError when something does not start, hangs, or the signal fires */
export async function underLoad(plan: LoadPlan): Promise<Load> {
  const { url, progress, watchMs, restMs, profile, signal } = plan;
  await using stack = new AsyncDisposableStack();
  const connection = await connect(url, "requester");
  stack.defer(() => connection.close());
  let { coordinator } = await startMeasured(url, profile);
  stack.defer(() => coordinator.stop());
  progress(`load: opening ${agents} agents`);
  const openedAt = performance.now();
  // Ended first, while somebody answers them.
  const crowd = await startAgents({ url, agents, buildMs: jobMs, uploadMs: jobMs });
  stack.defer(() => crowd.stop());
  await untilOnline(connection, agents, { everyMs: 100, withinMs: presentMsMax });
  const presentMs = performance.now() - openedAt;
  const submittedAt = performance.now();
  for (let first = 0; first < queuedAtFirst; first += requestSize) {
    const at = Date.now();
    const chains = Array.from({ length: requestSize }, (_, index) => installNumber(first + index, at));
    await askFor(connection, { v: 1, kind: "submit", chains }, "accepted");
  }
  const answeredMs = performance.now() - submittedAt;
  await delay(jobMs + 1_000, undefined, { signal });
  progress("load: watching the coordinator at work");
  const busy = await watch(connection, coordinator, watchMs, signal);
  const stoppedAt = performance.now();
  await coordinator.stop();
  const endedMs = performance.now() - stoppedAt;
  progress("load: starting it anew amid the work");
  const again = await startMeasured(url, profile);
  coordinator = again.coordinator;
  const load = { presentMs, answeredMs, busy, endedMs, restart: again.startUp };
  if (restMs === 0) return load;
  progress("load: watching it until the history's keeper has made its round");
  return { ...load, resting: await watch(connection, coordinator, restMs, signal) };
}

function startAgents(plan: AgentsPlan): Promise<Child> {
  return startChild({
    name: "agents",
    entry: new URL("agents/main.ts", import.meta.url),
    args: [JSON.stringify(plan)],
    readyWords: agentsOpenWords,
  });
}

async function watch(connection: Connection, { pid }: Child, forMs: number, signal: AbortSignal): Promise<Watched> {
  const { agents: seen } = await askFor(connection, { v: 1, kind: "agents" }, "agents");
  const running = seen.reduce((sum, { busy }) => sum + busy, 0);
  const { live } = await askFor(connection, { v: 1, kind: "status" }, "status");
  const before = await figuresOf(pid);
  const startedAt = performance.now();
  const statusMs: number[] = [];
  let residentMb = 0;
  let unanswered = 0;
  while (performance.now() - startedAt < forMs) {
    await delay(askEveryMs, undefined, { signal });
    const askedAt = performance.now();
    const isAnswered = await isStatusAnswered(connection);
    statusMs.push(performance.now() - askedAt);
    if (!isAnswered) unanswered += 1;
    residentMb = Math.max(residentMb, (await figuresOf(pid)).residentMb);
  }
  const after = await figuresOf(pid);
  const processorShare = (after.processorMs - before.processorMs) / (performance.now() - startedAt);
  return { residentMb, peakMb: after.peakMb, processorShare, statusMs, unanswered, running, live };
}

async function isStatusAnswered(connection: Connection): Promise<boolean> {
  try {
    await askFor(connection, { v: 1, kind: "status" }, "status");
    return true;
  } catch (error) {
    if (error instanceof UnavailableError) return false;
    throw error;
  }
}
