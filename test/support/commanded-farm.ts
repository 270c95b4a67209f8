/**
 * The real farm as the commands of a model have it: one nats-server, one coordinator that works and perhaps a frozen one that it
 * has replaced, puppet agents, and the questions by which everything is seen. Time goes on only by `passTime`.
 *
 * 1. A command is over when everything that it has caused by messages has been done: `settled`.
 * 2. What is looked at are the records in the bucket, read anew; the coordinator's own answer must come to the same.
 */
import { isDeepStrictEqual } from "node:util";
import { jetstreamManager } from "@nats-io/jetstream";
import { poll, systemClock } from "#actor/clock.ts";
import { Bucket } from "#bus/bucket.ts";
import { ChainStore } from "#bus/chain-store.ts";
import type { Connection } from "#bus/connection.ts";
import { request } from "#bus/rpc.ts";
import { declareTopology } from "#bus/topology.ts";
import { type AgentState, emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { AdminAnswer, type AdminRequest } from "#protocol/admin.ts";
import type { Announcement } from "#protocol/agent.ts";
import { type Chain, jobsOf, withoutSecrets } from "#protocol/chain.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { type Ask, AskAnswer } from "#protocol/messages.ts";
import { adminSubject, askSubject, buckets, bucketStream, streams } from "#protocol/names.ts";
import { agentNamed, bootNumber, chainNumber } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { PuppetAgent } from "#test/support/puppet-agent.ts";
import { type Decide, WatchedCoordinator } from "#test/support/watched-coordinator.ts";

/** An answer that was thrown away is known of at once; this is for what the server has lost. */
const askMs = 400;
/** A busy machine and a server that comes back stay within it. */
const withinMs = 10_000;

const lanes = [
  ["compile", "bench-1", 1],
  ["compile", "bench-2", 2],
  ["upload", "pi-1", 1],
  ["upload", "pi-2", 2],
] as const;

/** The farm at a moment at which nothing was under way. */
export interface Sight {
  readonly farm: Farm;
  /** What the coordinator answers for its live chains, where it is not what the records say even after some time. */
  readonly difference: string | undefined;
  readonly damaged: readonly string[];
}

export class CommandedFarm implements AsyncDisposable {
  readonly server: TestServer;
  readonly puppets: readonly PuppetAgent[];
  readonly #user: Connection;
  readonly #store: ChainStore;
  readonly #history: Bucket<typeof StoredChain>;
  #decide: Decide | undefined;
  #coordinator: WatchedCoordinator | undefined;
  #frozen: WatchedCoordinator | undefined;
  #commitFailures = 0;
  #ids = 0;

  private constructor(server: TestServer, user: Connection, puppets: readonly PuppetAgent[]) {
    this.server = server;
    this.puppets = puppets;
    this.#user = user;
    this.#store = new ChainStore(user);
    this.#history = new Bucket(user, buckets.history, StoredChain);
  }

  static async start(): Promise<CommandedFarm> {
    const server = await testServer();
    const user = await server.connect("user");
    await declareTopology(user);
    const puppets: PuppetAgent[] = [];
    for (const [lane, name, slots] of lanes) {
      puppets.push(new PuppetAgent(await server.connect(name), lane, name, slots));
    }
    return new CommandedFarm(server, user, puppets);
  }

  /** An empty farm with a new coordinator, whatever was before. */
  async begin(decide?: Decide): Promise<void> {
    await this.end();
    const manager = await jetstreamManager(this.#user, { checkAPI: false });
    const kept = [buckets.chains, buckets.history, buckets.devices, buckets.presence].map(bucketStream);
    await Promise.all([...kept, streams.lanes].map((stream) => manager.streams.purge(stream)));
    for (const puppet of this.puppets) puppet.begin();
    this.#decide = decide;
    this.#commitFailures = 0;
    this.#coordinator = await this.#startCoordinator();
    for (const puppet of this.puppets) await this.speak(puppet);
  }

  async end(): Promise<void> {
    this.#frozen?.wake();
    await this.#frozen?.stop();
    await this.#coordinator?.stop();
    this.#frozen = undefined;
    this.#coordinator = undefined;
  }

  get coordinator(): WatchedCoordinator {
    if (this.#coordinator === undefined) throw new Error("the farm has not begun");
    return this.#coordinator;
  }

  /** Whether a commit of this run did not succeed for certain. */
  get hasFailedCommits(): boolean {
    return this.#commitFailures + (this.#coordinator?.commitFailures ?? 0) > 0;
  }

  /** Never given before. */
  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  /** Asks until somebody answers. */
  ask(message: AdminRequest): Promise<AdminAnswer> {
    return this.#untilAnswered(() => request(this.#user, adminSubject, message, AdminAnswer, askMs));
  }

  askAs(puppet: PuppetAgent, ask: Ask): Promise<AskAnswer> {
    return this.#untilAnswered(() => request(puppet.connection, askSubject(puppet.id), ask, AskAnswer, askMs));
  }

  /** The same requests, of which nobody waits for the answer. */
  throwAway(message: AdminRequest): void {
    this.#user.publish(adminSubject, encode(message));
  }

  throwAwayAs(puppet: PuppetAgent, ask: Ask): void {
    puppet.connection.publish(askSubject(puppet.id), encode(ask));
  }

  async #untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
    const until = systemClock.monotonic() + withinMs;
    for (;;) {
      const { death } = this.coordinator;
      const forgotten = this.coordinator.forgotten();
      try {
        const answer = await Promise.race([ask(), forgotten, death]);
        if (answer !== undefined) return answer;
      } catch (error) {
        if (!(error instanceof UnavailableError) || systemClock.monotonic() > until) throw error;
      }
    }
  }

  /** Resolves when everything that has come to the coordinator before has been handled and answered. */
  async settled(): Promise<void> {
    await Promise.all([this.#user, ...this.puppets.map(({ connection }) => connection)].map((one) => one.flush()));
    const stranger = this.puppets[0]!;
    // What people ask waits for its entry in the audit, one behind the other.
    await this.ask({ v: 1, kind: "change-rollout", id: chainNumber(0), action: "resume" });
    const nothing = { v: 1, boot: bootNumber(0), chain: chainNumber(0), job: "compile", attempt: 1 } as const;
    await this.#untilAnswered(() => {
      const ask = { kind: "claim", ...nothing };
      return request(stranger.connection, askSubject(agentNamed("stranger")), ask, AskAnswer, askMs);
    });
  }

  /** Makes a statement until the coordinator has heard it. */
  async speak(puppet: PuppetAgent, statement: Announcement = puppet.statement()): Promise<void> {
    const heard = this.coordinator.heard(statement).then(() => true as const);
    const isHeard = await poll(systemClock, { everyMs: 5, withinMs }, async () => {
      await puppet.publish(statement).catch(() => undefined);
      const timeout = new AbortController();
      const late = systemClock.pause(askMs, timeout.signal).then(() => undefined);
      return Promise.race([heard, late]).finally(() => timeout.abort());
    });
    if (isHeard !== true) throw new Error(`${puppet.id} was not heard within ${withinMs} ms`);
    puppet.silentMs = 0;
  }

  /** Time passes, in which only these have spoken; then the coordinator's pulse. */
  async passTime(ms: number, speakers: readonly PuppetAgent[]): Promise<void> {
    this.coordinator.clock.pass(ms);
    this.#frozen?.clock.pass(ms);
    for (const puppet of this.puppets) puppet.silentMs += ms;
    for (const puppet of speakers) await this.speak(puppet);
    this.coordinator.clock.endPauses();
    await this.settled();
  }

  async restartCoordinator(): Promise<void> {
    this.#retire(this.coordinator);
    await this.coordinator.stop();
    this.#coordinator = await this.#startCoordinator(this.coordinator.clock.monotonic());
  }

  /** Another coordinator takes over from one that freezes, perhaps in the middle of the commit of this request. */
  async usurp(during?: AdminRequest): Promise<void> {
    const older = this.coordinator;
    this.#retire(older);
    older.freeze();
    if (during !== undefined) {
      older.hand(during);
      await older.untilHeld();
      older.isLeaseOver = true;
    }
    this.#frozen = older;
    this.#coordinator = await this.#startCoordinator(older.clock.monotonic());
  }

  get isUsurped(): boolean {
    return this.#frozen !== undefined;
  }

  /** The frozen one goes on as if nothing had happened, until it finds out. @returns what it has done since it was frozen */
  async wake(request: AdminRequest): Promise<Pick<WatchedCoordinator, "lateCommits" | "handedAnswers">> {
    const older = this.#frozen;
    if (older === undefined) return { lateCommits: [], handedAnswers: [] };
    this.#frozen = undefined;
    older.hand(request);
    older.wake();
    // One that does not know that its lease is over may find out before its next pulse only: the history has no fence.
    if (older.isLeaseOver) older.clock.endPauses();
    await older.untilDeposed();
    await older.stop();
    return older;
  }

  /** SIGKILL, and the same store again. */
  async restartServer(): Promise<void> {
    await this.server.kill();
    await this.server.restart();
  }

  async #startCoordinator(elapsedMs = 0): Promise<WatchedCoordinator> {
    const coordinator = new WatchedCoordinator(await this.server.connect("coordinator"), this.#decide);
    coordinator.clock.pass(elapsedMs);
    await coordinator.start();
    return coordinator;
  }

  #retire({ commitFailures }: WatchedCoordinator): void {
    this.#commitFailures += commitFailures;
  }

  /** Resolves when every dispatch of the records has come to its agent. */
  async untilGiven(farm: Farm): Promise<void> {
    for (const chain of farm.chains.values()) {
      for (const job of jobsOf(chain)) {
        if (job.state !== "dispatched") continue;
        const puppet = this.puppets.find(({ id }) => id === job.assigned?.agent);
        await puppet?.untilGiven({ chain: chain.id, job: job.name, attempt: job.attempt });
      }
    }
  }

  /** Invariant 2. */
  async look(): Promise<Sight> {
    const until = systemClock.monotonic() + withinMs;
    for (;;) {
      const { chains, damaged } = await this.#untilAnswered(() => this.#store.load());
      const answer = await this.ask({ v: 1, kind: "chains", ended: 0 });
      const said = byId(answer.kind === "chains" ? answer.live.map(({ chain }) => chain) : []);
      const agents = await this.#agents();
      const recorded = byId(chains.map(withoutSecrets));
      const isSame = isDeepStrictEqual(said, recorded);
      if (!isSame && systemClock.monotonic() < until) {
        await this.settled();
        continue;
      }
      const difference = isSame ? undefined : `${JSON.stringify([...said])} is not ${JSON.stringify([...recorded])}`;
      return { farm: { ...emptyFarm, chains: recorded, agents }, difference, damaged: damaged.map(({ key }) => key) };
    }
  }

  /** What the history has of these chains. */
  async ended(ids: readonly ChainId[]): Promise<ReadonlyMap<ChainId, Chain>> {
    const found = await Promise.all(ids.map((id) => this.#history.get(id)));
    return new Map(found.flatMap((chain) => (chain === undefined ? [] : [[chain.id, chain] as const])));
  }

  async #agents(): Promise<Farm["agents"]> {
    const answer = await this.ask({ v: 1, kind: "agents" });
    const views = answer.kind === "agents" ? answer.agents : [];
    return new Map(
      views.map(({ announcement, online, seenAt }): [AgentState["announcement"]["agent"], AgentState] => [
        announcement.agent,
        { announcement, seenAt, ...(online ? {} : { vanishedAt: seenAt }) },
      ]),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    for (const puppet of this.puppets) await puppet[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

function byId(chains: readonly Chain[]): ReadonlyMap<ChainId, Chain> {
  return new Map(chains.toSorted((a, b) => (a.id < b.id ? -1 : 1)).map((chain) => [chain.id, chain]));
}
