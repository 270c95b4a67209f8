/** The real coordinator on a real nats-server, with agents that a test plays, and the questions that a test asks. */
import { silentLog } from "#actor/log.ts";
import type { Connection } from "#bus/connection.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import type { AdminAnswer, AdminRequest, CancelVerdict, ChainRequest } from "#protocol/admin.ts";
import { type Chain, jobOf } from "#protocol/chain.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { JobState, Lane } from "#protocol/job.ts";
import { vi } from "vitest";
import { chainNumber, configurationNamed, type StatementOptions } from "#test/support/farm-builders.ts";
import { type JumpingClock, jumpingClock } from "#test/support/jumping-clock.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { ScriptedAgent } from "#test/support/scripted-agent.ts";

/** A busy machine and a coordinator that reconnects stay within it. */
const withinMs = 8_000;

type AnswerOf<K extends AdminAnswer["kind"]> = Extract<AdminAnswer, { kind: K }>;

export class ServedFarm implements AsyncDisposable {
  readonly server: TestServer;
  readonly user: Connection;
  readonly clock: JumpingClock = jumpingClock();
  readonly #agents: ScriptedAgent[] = [];
  #coordinator: Coordinator;

  private constructor(server: TestServer, user: Connection, own: Connection) {
    this.server = server;
    this.user = user;
    this.#coordinator = new Coordinator(coordinatorPorts(own), this.clock, silentLog);
  }

  static async start(): Promise<ServedFarm> {
    return ServedFarm.on(await testServer());
  }

  /** On a server that may hold a farm already, and that ends with it. */
  static async on(server: TestServer): Promise<ServedFarm> {
    const farm = new ServedFarm(server, await server.connect("user"), await server.connect("coordinator"));
    await farm.#coordinator.start();
    return farm;
  }

  async agent(lane: Lane, name: string, options?: StatementOptions): Promise<ScriptedAgent> {
    const agent = new ScriptedAgent(await this.server.connect(name), lane, name, options);
    this.#agents.push(agent);
    return agent;
  }

  async stopCoordinator(): Promise<void> {
    await this.#coordinator.stop();
  }

  /** The coordinator's process is replaced by a new one. */
  async restartCoordinator(): Promise<void> {
    await this.stopCoordinator();
    this.#coordinator = new Coordinator(
      coordinatorPorts(await this.server.connect("next coordinator")),
      this.clock,
      silentLog,
    );
    await this.#coordinator.start();
  }

  /** Asks until somebody answers, which must be with `kind`. */
  async ask<K extends AdminAnswer["kind"]>(kind: K, request: AdminRequest): Promise<AnswerOf<K>> {
    const answer = await vi.waitFor(() => askAdmin(this.user, request), withinMs);
    if (answer.kind !== kind) throw new Error(`${kind} was expected: ${JSON.stringify(answer)}`);
    return answer as AnswerOf<K>;
  }

  async submit(...chains: readonly ChainRequest[]): Promise<AnswerOf<"accepted">> {
    return this.ask("accepted", { v: 1, kind: "submit", chains: [...chains] });
  }

  /** The verdict on the newest chain that the reference means; one without jobs when none is live. */
  async cancel(reference: string): Promise<Pick<CancelVerdict, "jobs" | "tooLate">> {
    const { chains } = await this.ask("cancelling", { v: 1, kind: "cancel", of: { reference } });
    return chains.at(-1) ?? { jobs: [], tooLate: [] };
  }

  async clean(n: number, configuration: string): Promise<AnswerOf<"accepted">> {
    const id = chainNumber(n);
    return this.ask("accepted", { v: 1, kind: "clean", id, configuration: configurationNamed(configuration) });
  }

  async reset(n: number): Promise<AnswerOf<"accepted">> {
    return this.ask("accepted", { v: 1, kind: "reset", id: chainNumber(n) });
  }

  /** Ids of the finished chains, newest first. */
  async history(configuration?: string, isFailed = false): Promise<readonly ChainId[]> {
    const of = configuration === undefined ? {} : { configuration: configurationNamed(configuration) };
    const { ended } = await this.ask("chains", { v: 1, kind: "history", isFailed, limit: 100, ...of });
    return ended.map(({ id }) => id);
  }

  async status(): Promise<AnswerOf<"status">> {
    return this.ask("status", { v: 1, kind: "status" });
  }

  /** A chain as the CLI sees it, live or ended. */
  async chain(reference: string): Promise<Chain> {
    return (await this.ask("resolved", { v: 1, kind: "resolve", reference })).chain;
  }

  /** Waits until a job is in the state, and gives its chain. */
  async until(reference: string, job: JobName, state: JobState): Promise<Chain> {
    return vi.waitFor(async () => {
      const chain = await this.chain(reference);
      const found = jobOf(chain, job)?.state;
      if (found !== state) throw new UnavailableError("not-yet", `${job} of ${reference} is ${found}, not ${state}`);
      return chain;
    }, withinMs);
  }

  /** Waits until an agent has been heard. */
  async untilKnown(name: string): Promise<void> {
    await vi.waitFor(async () => {
      const { agents } = await this.ask("agents", { v: 1, kind: "agents" });
      if (!agents.some(({ announcement, online }) => online && announcement.agent === name))
        throw new UnavailableError("not-yet", `${name} has not been heard`);
    }, withinMs);
  }

  /** Waits until every chain has gone to the history. */
  async untilArchived(): Promise<void> {
    await vi.waitFor(async () => {
      const { live } = await this.status();
      if (live > 0) throw new UnavailableError("not-yet", `${live} chains are still live`);
    }, withinMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) await agent[Symbol.asyncDispose]();
    await this.#coordinator.stop();
    await this.server[Symbol.asyncDispose]();
  }
}
