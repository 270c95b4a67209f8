/**
 * A farm of its own for each run, as the closest peer was measured: build machines that only compile, one build at a time each, and
 * one machine with nine upload slots beside the devices. Server, coordinator and agents are processes.
 */
import { join } from "node:path";
import type { AdminAnswer, AdminRequest, ChainRequest } from "#protocol/admin.ts";
import { decode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { AgentId, type ChainId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import { type AgentPlan, AgentWord, laneOpenWords, type Stage, type Work } from "#bench/bulk/agent-plan.ts";
import { type Child, startChild, startCoordinator } from "#bench/child.ts";
import { type AnswerOf, askFor, untilOnline } from "#bench/farm-questions.ts";

export const compileAgents = 3;
export const compileSlots = 1;
export const uploadSlots = 9;

export interface FarmPlan {
  /** Path of a nats-server. */
  readonly binary: string;
  /** Empty, and the farm's own. */
  readonly folder: string;
  readonly compile: Work;
  readonly upload: Work;
}

const readyMsMax = 20_000;

export class BulkFarm implements AsyncDisposable {
  readonly connection: Connection;
  readonly #server: EmbeddedServer;
  readonly #children: readonly Child[];
  readonly #heard: Heard;

  private constructor(connection: Connection, server: EmbeddedServer, children: readonly Child[], heard: Heard) {
    this.connection = connection;
    this.#server = server;
    this.#children = children;
    this.#heard = heard;
  }

  /** Resolves when the coordinator knows all agents. @throws UnavailableError when something does not start */
  static async open({ binary, folder, compile, upload }: FarmPlan): Promise<BulkFarm> {
    await using stack = new AsyncDisposableStack();
    const server = await startEmbeddedServer({ binary, folder: join(folder, "nats") });
    stack.defer(() => server.stop());
    const { url } = server;
    const children = [await startCoordinator(url)];
    // Last: agents that nobody answers wait for an answer before they end.
    stack.defer(async () => void (await Promise.all(children.map((child) => child.stop()))));
    const heard = new Heard();
    const start = async (name: string, lane: Lane, slots: number, work: Work) => {
      const agent = AgentId.parse(name);
      children.push(await startAgent({ url, agent, lane, slots, work, home: join(folder, name) }, heard));
    };
    for (let number = 1; number <= compileAgents; number += 1) {
      await start(`builder-${number}`, "compile", compileSlots, compile);
    }
    await start("flasher", "upload", uploadSlots, upload);
    const connection = await connect(url, "requester");
    stack.defer(() => connection.close());
    const farm = new BulkFarm(connection, server, children, heard);
    await untilOnline(connection, children.length - 1, { everyMs: 20, withinMs: readyMsMax });
    stack.move();
    return farm;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection.close();
    await Promise.all(this.#children.map((child) => child.stop()));
    await this.#server.stop();
  }

  /** @throws InvariantError for another answer; UnavailableError */
  ask<K extends AdminAnswer["kind"]>(request: AdminRequest, kind: K): Promise<AnswerOf<K>> {
    return askFor(this.connection, request, kind);
  }

  /** Asks for chains as `flashyard install` does, as many at once as a request holds. */
  async submit(chains: readonly ChainRequest[]): Promise<void> {
    for (let at = 0; at < chains.length; at += chainsPerRequestMax) {
      await this.ask({ v: 1, kind: "submit", chains: chains.slice(at, at + chainsPerRequestMax) }, "accepted");
    }
  }

  /** Until the coordinator has noted that many uploads. @throws UnavailableError when the signal fires first */
  untilFlashed(chains: number, signal: AbortSignal): Promise<void> {
    return this.#heard.untilFlashed(chains, signal);
  }

  /** How long each stage took, in each job since the farm was opened. */
  get stageMs(): Readonly<Record<Stage, readonly number[]>> {
    return this.#heard.stageMs;
  }
}

/** What the agents have said. */
class Heard {
  readonly stageMs: Readonly<Record<Stage, number[]>> = {
    "bundle-in": [],
    "image-hashed": [],
    "image-out": [],
    "image-in": [],
  };
  readonly #flashed = new Set<ChainId>();
  #wake: () => void = () => {};

  take(lane: Lane, word: AgentWord): void {
    if (word.kind === "stage") this.stageMs[word.stage].push(word.ms);
    if (word.kind !== "noted" || lane !== "upload") return;
    this.#flashed.add(word.chain);
    this.#wake();
  }

  async untilFlashed(chains: number, signal: AbortSignal): Promise<void> {
    while (this.#flashed.size < chains) {
      if (signal.aborted) {
        throw new UnavailableError("run-ended", `interrupted, or too late: ${this.#flashed.size} of ${chains} flashed`);
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      signal.addEventListener("abort", () => resolve(), { once: true });
      await promise;
    }
  }
}

function startAgent(plan: AgentPlan, heard: Heard): Promise<Child> {
  return startChild({
    name: plan.agent,
    entry: new URL("agent/main.ts", import.meta.url),
    args: [JSON.stringify(plan)],
    readyWords: laneOpenWords,
    onLine: (line) => {
      const word = decode(AgentWord, Buffer.from(line));
      if (word.ok) heard.take(plan.lane, word.value);
      else process.stderr.write(`${plan.agent}: ${line}\n`);
    },
  });
}
