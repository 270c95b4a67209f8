/**
 * A run in real time, divided by a scale: the production coordinator over a nats-server of its own, and production lane workers whose
 * jobs wait as long as they are told.
 */
import { join } from "node:path";
import { systemClock } from "#actor/clock.ts";
import { type JobHandler, LaneWorker } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { memorySpool } from "#actor/result-spool.ts";
import { InvariantError, UnavailableError } from "#protocol/errors.ts";
import type { AgentId, ChainId, Configuration } from "#protocol/ids.ts";
import type { Ask, AskAnswer } from "#protocol/messages.ts";
import { configurationKey } from "#protocol/names.ts";
import { askCoordinator } from "#bus/agent-client.ts";
import { connect } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { laneSource } from "#bus/lanes.ts";
import { announce } from "#bus/presence.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import type { PlacementRule } from "#coordinator/core/placement.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import { askFor, untilOnline } from "#bench/farm-questions.ts";
import {
  capabilitiesWith,
  durationsOf,
  identityOf,
  manifestOf,
  requestsOf,
  treeOf,
  treesAt,
} from "#bench/makespan/requests.ts";
import type { RunResult } from "#bench/makespan/virtual-run.ts";
import type { Device, Workload } from "#bench/makespan/workload.ts";

export interface RealPlan {
  readonly workload: Workload;
  readonly rule: PlacementRule;
  /** How many times faster than it would be. */
  readonly scale: number;
  /** Path of a nats-server. */
  readonly binary: string;
  /** Empty, and the run's own. */
  readonly folder: string;
  readonly signal: AbortSignal;
}

const readyMsMax = 20_000;
/** Of one run, in real time. */
const runMsMax = 180_000;

/** @returns times as they would be without the scale. @throws UnavailableError when something does not start or end */
export async function runReally(plan: RealPlan): Promise<RunResult> {
  const { workload, scale, binary, folder, signal } = plan;
  await using stack = new AsyncDisposableStack();
  const server = await startEmbeddedServer({ binary, folder: join(folder, "nats") });
  stack.defer(() => server.stop());
  const { url } = server;
  await startCoordinator(url, plan, stack);
  const run = new RealRun(workload, scale);
  for (const agent of workload.builders) await run.openBuilder(url, agent, stack);
  for (const agent of workload.uploaders) await run.openUploader(url, agent, stack);
  const requester = await connect(url, "requester");
  stack.defer(() => requester.close());
  const agents = workload.builders.length + workload.uploaders.length;
  await untilOnline(requester, agents, { everyMs: 20, withinMs: readyMsMax });
  const chains = requestsOf(workload, Date.now());
  run.begin(chains);
  await askFor(requester, { v: 1, kind: "submit", chains: [...chains] }, "accepted");
  return await run.toTheEnd(AbortSignal.any([signal, AbortSignal.timeout(runMsMax)]));
}

/** With what it has learned of the durations before it starts. */
async function startCoordinator(
  url: string,
  { workload, rule, scale }: RealPlan,
  stack: AsyncDisposableStack,
): Promise<void> {
  const connection = await connect(url, "coordinator");
  stack.defer(() => connection.close());
  const ports = coordinatorPorts(connection);
  await ports.prepare();
  const durations = [...durationsOf(workload, scale)].map(
    ([name, record]) => [configurationKey(name), record] as const,
  );
  await ports.durations.putAll(new Map(durations));
  const coordinator = new Coordinator(ports, systemClock, silentLog, {
    decide: (farm, events, at) => transitionAll(farm, events, at, rule),
  });
  stack.defer(() => coordinator.stop());
  await coordinator.start();
}

class RealRun {
  readonly #workload: Workload;
  readonly #scale: number;
  readonly #deviceOf = new Map<ChainId, Device>();
  readonly #flashedAt: number[] = [];
  readonly #allFlashed = Promise.withResolvers<void>();
  #begunAt = 0;
  #coldBuilds = 0;

  constructor(workload: Workload, scale: number) {
    this.#workload = workload;
    this.#scale = scale;
  }

  begin(chains: readonly { readonly id: ChainId }[]): void {
    for (const [index, { id }] of chains.entries()) {
      const device = this.#workload.devices[index];
      if (device !== undefined) this.#deviceOf.set(id, device);
    }
    this.#begunAt = performance.now();
  }

  async toTheEnd(signal: AbortSignal): Promise<RunResult> {
    signal.addEventListener("abort", () => this.#allFlashed.resolve(), { once: true });
    if (signal.aborted) this.#allFlashed.resolve();
    await this.#allFlashed.promise;
    const { length } = this.#flashedAt;
    const wanted = this.#workload.devices.length;
    if (length < wanted)
      throw new UnavailableError("run-ended", `interrupted, or too late: ${length} of ${wanted} flashed`);
    const ends = this.#flashedAt.map((at) => (at - this.#begunAt) * this.#scale);
    return {
      makespanMs: Math.max(...ends),
      meanEndMs: ends.reduce((sum, one) => sum + one, 0) / length,
      coldBuilds: this.#coldBuilds,
    };
  }

  async openBuilder(url: string, agent: AgentId, stack: AsyncDisposableStack): Promise<void> {
    const trees = new Set<Configuration>(treesAt(this.#workload, agent).map(({ configuration }) => configuration));
    const identity = identityOf(agent, "compile", treesAt(this.#workload, agent));
    const worker = await this.#open(url, identity, stack, async ({ chain }, { signal }) => {
      const { configuration, coldMs, warmMs } = this.#known(chain);
      const isWarm = trees.has(configuration);
      if (!isWarm) this.#coldBuilds += 1;
      const begunAt = performance.now();
      if (!(await systemClock.pause((isWarm ? warmMs : coldMs) / this.#scale, signal))) return { kind: "stopped" };
      trees.add(configuration);
      worker.setCapabilities({ compile: capabilitiesWith([...trees].map(treeOf)) });
      return { kind: "built", manifest: manifestOf(configuration), buildMs: performance.now() - begunAt, isWarm };
    });
  }

  async openUploader(url: string, agent: AgentId, stack: AsyncDisposableStack): Promise<void> {
    await this.#open(url, identityOf(agent, "upload", []), stack, async ({ chain }, attempt) => {
      if ((await attempt.claimFlash()) !== "go") return { kind: "stopped" };
      const begunAt = performance.now();
      if (!(await systemClock.pause(this.#known(chain).flashMs / this.#scale, attempt.signal)))
        return { kind: "stopped" };
      return { kind: "flashed", level: "committed", wrote: true, flashMs: performance.now() - begunAt };
    });
  }

  async #open(
    url: string,
    identity: ReturnType<typeof identityOf>,
    stack: AsyncDisposableStack,
    handler: JobHandler,
  ): Promise<LaneWorker> {
    const { agent, lane } = identity;
    const connection = await connect(url, agent);
    stack.defer(() => connection.close());
    const ask = async (message: Ask): Promise<AskAnswer> => {
      const answer = await askCoordinator(connection, agent, message);
      if (lane === "upload" && message.kind === "report" && answer.verdict === "noted") this.#flashed();
      return answer;
    };
    const worker = new LaneWorker({
      identity,
      source: laneSource(connection, lane, agent, identity.slots, silentLog),
      link: { ask, announce: (statement) => announce(connection, statement), ping: () => connection.rtt() },
      handler,
      spool: memorySpool(),
      clock: systemClock,
      log: silentLog,
    });
    stack.defer(() => worker.stop());
    await worker.start();
    return worker;
  }

  #flashed(): void {
    this.#flashedAt.push(performance.now());
    if (this.#flashedAt.length >= this.#workload.devices.length) this.#allFlashed.resolve();
  }

  #known(chain: ChainId): Device {
    const device = this.#deviceOf.get(chain);
    if (device === undefined) throw new InvariantError("foreign-chain", `chain ${chain} is not of this run`);
    return device;
  }
}
