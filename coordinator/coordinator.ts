/**
 * The coordinator: one event loop over the pure core.
 *
 * 1. Nothing is answered, dispatched or stopped before the records that say so are committed.
 * 2. After a commit that did not succeed for certain, the farm is rebuilt from the records before anything else happens; a fence
 *    in the records then keeps out whatever was under way.
 * 3. Everything that waits in the mailbox goes through one transition and one commit.
 * 4. A chain starts once: a request that is repeated because its answer was lost finds it live or among the ended ones.
 * 5. Who does not lead any more answers nothing and ends: its farm is stale, and somebody else answers from a newer one.
 */
import type { Clock } from "#actor/clock.ts";
import type { CoordinatorPorts, Listening } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import { Mailbox } from "#actor/mailbox.ts";
import { once, type Service } from "#actor/service.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { Chain } from "#protocol/chain.ts";
import { type AgentId, type ChainId, JobName, jobRef } from "#protocol/ids.ts";
import { atomicRecordsMax } from "#protocol/limits.ts";
import type { PrefetchHint, Progress } from "#protocol/messages.ts";
import { addressing, keeping } from "#coordinator/address.ts";
import { serveAdmin } from "#coordinator/admin-api.ts";
import { recallBlocked } from "#coordinator/agent-artifacts.ts";
import { AgentWatch } from "#coordinator/agent-watch.ts";
import { Answers } from "#coordinator/answers.ts";
import { Audit } from "#coordinator/audit.ts";
import { pruneCache } from "#coordinator/cache.ts";
import { historyLimits } from "#coordinator/config.ts";
import { impliedEffects } from "#coordinator/core/effects.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import type { HistoryLimits } from "#coordinator/core/history.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import { HistoryKeeper } from "#coordinator/history-keeper.ts";
import { serveAgents } from "#coordinator/intake.ts";
import type { Lead } from "#coordinator/held-lease.ts";
import { type BuilderOf, Interpreter } from "#coordinator/interpreter.ts";
import { Lookout } from "#coordinator/lookout.ts";
import { ObjectDesk } from "#coordinator/object-desk.ts";
import { Memory } from "#coordinator/memory.ts";
import { PairingDesk } from "#coordinator/pairing-desk.ts";
import { BuilderDesk } from "#coordinator/builder-desk.ts";
import { Registry } from "#coordinator/registry.ts";

/** More would only lengthen the wait of the first in the group; one batch of 500 records takes 10 ms. */
const groupMax = 500;
/** About 60 MB of reports at worst; whoever is refused asks again. */
const mailboxCapacity = 50_000;
/** Pulse of leases, back-offs and presence. */
const beatMs = 500;

export interface CoordinatorOptions {
  /** Asked before anything is answered, and by a renewal whenever somebody else may have written. Left out: always leads. */
  readonly lead?: Lead;
  readonly history?: HistoryLimits;
  /** Stands in for the core in tests. */
  readonly decide?: typeof transitionAll;
  /** Resolves when the process has looked at its sockets, timers and signals. Left out: at once. */
  readonly breathe?: () => Promise<void>;
}

const alwaysLeads: Lead = { isLeading: () => true, confirm: () => Promise.resolve(true) };

export class Coordinator implements Service {
  readonly #ports: CoordinatorPorts;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #options: Required<CoordinatorOptions>;
  readonly #answers = new Answers();
  readonly #mailbox = new Mailbox<FarmEvent>(mailboxCapacity);
  readonly #interpreter: Interpreter;
  readonly #memory: Memory;
  readonly #registry: Registry;
  readonly #pairing: PairingDesk;
  readonly #builders: BuilderDesk;
  readonly #watch: AgentWatch;
  readonly #lookout: Lookout;
  readonly #desk: ObjectDesk;
  readonly #stopping = new AbortController();
  readonly #services: Listening[] = [];
  readonly #loops: Promise<void>[] = [];
  readonly #progress = new Map<string, Progress>();
  /** Chains that have left the live records, and when; as long as the bucket remembers them. Invariant 4. */
  readonly #ended = new Map<ChainId, number>();
  #farm: Farm = emptyFarm;
  #lastSequence = 0;
  /** The end of the commit that is under way. */
  #settling: Promise<void> = Promise.resolve();
  /** Set when the server was away: its memory streams, and so the lanes, may be empty. */
  #mustRebuild = false;
  #hasMemory = false;
  #isDeposed = false;

  constructor(ports: CoordinatorPorts, clock: Clock, log: Log, options: CoordinatorOptions = {}) {
    this.#ports = ports;
    this.#clock = clock;
    this.#log = log;
    const breathe = () => Promise.resolve();
    this.#options = { lead: alwaysLeads, decide: transitionAll, history: historyLimits({}), breathe, ...options };
    const post = (event: FarmEvent) => this.#mailbox.post(event);
    this.#memory = new Memory(ports, clock);
    this.#registry = new Registry(ports, clock);
    this.#desk = new ObjectDesk(
      ports,
      () => this.#farm,
      (agent) => this.#registry.sealKeyOf(agent),
      log,
    );
    this.#builders = new BuilderDesk(ports.identity, this.#registry, log);
    const listener = {
      archived: (chain: Chain) => this.#archived(chain),
      hinted: (agent: AgentId, hint: PrefetchHint) => this.#desk.hinted(agent, hint),
    };
    const address = addressing(ports.identity, (agent) => this.#registry.sealKeyOf(agent));
    const builderOf: BuilderOf = (manifest, chain, attempt) => this.#builders.wordFor(manifest, chain, attempt);
    const parts = { listener, address, builderOf };
    this.#interpreter = new Interpreter(ports, this.#memory, this.#answers, log, parts);
    this.#watch = new AgentWatch(ports, clock, log, post, (agent, lane) => this.#registry.isPaired(agent, lane));
    this.#pairing = new PairingDesk(ports, {
      registry: this.#registry,
      clock,
      log,
      isLeading: () => this.#isAnswering(),
      onRevoked: (agent) => this.#watch.dismiss(agent),
    });
    this.#lookout = new Lookout(ports, clock, this.#memory, post);
  }

  /** Resolves when requests are answered. @throws UsageError when the server is too old or has no JetStream. */
  readonly start = once(async (): Promise<void> => {
    // Before the records are read: a server that restarts after that has empty lanes.
    this.#services.push(
      this.#ports.onReconnect(() => {
        this.#mustRebuild = true;
        this.#mailbox.post({ kind: "time-passed" });
      }),
    );
    await this.#rebuild();
    if (this.#stopping.signal.aborted) return this.#fallSilent();
    const post = (event: FarmEvent) => this.#mailbox.post(event);
    this.#services.push(
      serveAgents(this.#ports, this.#answers, this.#log, post, this.#registry),
      serveAdmin(this.#ports, {
        answers: this.#answers,
        interpreter: this.#interpreter,
        memory: this.#memory,
        registry: this.#registry,
        pairing: this.#pairing,
        builders: this.#builders,
        audit: new Audit((entry) => this.#ports.audit(entry)),
        desk: this.#desk,
        keep: keeping(this.#ports.identity),
        pruneCache: (before) => pruneCache(this.#ports, this.#memory, () => this.#farm, before, this.#clock.now()),
        startedAt: this.#clock.now(),
        farm: () => ({ ...this.#farm, knowledge: this.#memory.knowledge }),
        settled: () => this.#settling,
        now: () => this.#clock.now(),
        isLeading: () => this.#isAnswering(),
        post,
        progressOf: (reference) => this.#progress.get(reference),
        twins: () => this.#lookout.twins(),
        isKnown: (chain) => this.#farm.chains.has(chain) || this.#ended.has(chain),
      }),
      this.#ports.listenProgress((chain, job, progress) => {
        if (this.#farm.chains.has(chain as ChainId)) this.#progress.set(`${chain}.${job}`, progress);
      }),
      this.#lookout.listen(() => this.#farm),
      this.#desk.listen(),
      this.#pairing.listen(),
    );
    await this.#ports.flush();
    const keeper = new HistoryKeeper(
      this.#ports,
      this.#memory,
      this.#clock,
      this.#log,
      this.#options.history,
      (chain) => this.#farm.chains.has(chain),
    );
    const { signal } = this.#stopping;
    this.#loops.push(this.#loop(), this.#beat(), this.#watch.run(signal), keeper.run(signal));
    this.#log.info("coordinator ready");
  });

  readonly stop = once(async (): Promise<void> => {
    this.#fallSilent();
    await Promise.allSettled(this.#loops);
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Settles when the event loop ends: after `stop`, when another one leads, or with the error that must end the process. */
  async finished(): Promise<"stopped" | "deposed"> {
    await Promise.all(this.#loops);
    return this.#isDeposed ? "deposed" : "stopped";
  }

  /** A server that was away may have forgotten the lease: nothing is answered before it has been confirmed. */
  #isAnswering(): boolean {
    return !this.#mustRebuild && this.#options.lead.isLeading();
  }

  #fallSilent(): void {
    this.#stopping.abort();
    for (const service of this.#services) service.stop();
  }

  /** Invariant 5. */
  #depose(reason: string): void {
    this.#isDeposed = true;
    this.#log.warn({ reason }, "another coordinator leads: this one ends");
    this.#fallSilent();
  }

  async #loop(): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      const events = await this.#mailbox.take(groupMax, signal);
      if (signal.aborted) return;
      if (this.#mustRebuild) await this.#resynchronise();
      if (!this.#options.lead.isLeading()) this.#depose("the lease has run out");
      // Also when the resynchronisation has ended it.
      if (signal.aborted) return;
      const current = events.flatMap((event) => this.#unended(event) ?? []);
      const handling = this.#handle(current.map((event) => this.#builders.checked(this.#farm, event)));
      this.#settling = handling.catch(() => undefined);
      await handling;
      // What changes nothing is handled without waiting for anything: a thousand statements a second would keep the lease from being
      // renewed, and come one at a time instead of together.
      await this.#options.breathe();
    }
  }

  /** Invariant 4: what is left of a request whose chains have ended, perhaps while it waited. */
  #unended(event: FarmEvent): FarmEvent | undefined {
    if (event.kind === "chains-submitted" && event.chains.some(({ id }) => this.#ended.has(id))) {
      return { ...event, chains: event.chains.filter(({ id }) => !this.#ended.has(id)) };
    }
    const isClean = event.kind === "clean-asked" || event.kind === "reset-asked";
    if (!isClean || !this.#ended.has(event.id)) return event;
    this.#answers.answer(event.answerTo, { kind: "accepted", chains: [event.id], superseded: [] });
    return undefined;
  }

  async #handle(events: readonly FarmEvent[]): Promise<void> {
    const { knowledge } = this.#memory;
    if (knowledge !== this.#farm.knowledge) this.#farm = { ...this.#farm, knowledge };
    const { farm, effects, changed, isAtomic } = this.#options.decide(this.#farm, events, this.#clock.now());
    if (isAtomic && changed.size > atomicRecordsMax && events.length > 1) {
      // Together they are more than can be written all or none; the core lets no single event be.
      const half = Math.ceil(events.length / 2);
      await this.#handle(events.slice(0, half));
      if (!this.#stopping.signal.aborted) await this.#handle(events.slice(half));
      return;
    }
    if (changed.size > 0) {
      try {
        const result = await this.#ports.records.commit(changed, this.#lastSequence, isAtomic);
        if (!result.ok) {
          this.#log.error({ detail: result.detail }, "the records were written by somebody else: resynchronising");
          return await this.#resynchronise();
        }
        this.#lastSequence = result.lastSequence;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        this.#log.warn({ err: error }, "a commit was not answered: resynchronising");
        return await this.#resynchronise();
      }
    }
    this.#farm = farm;
    this.#interpreter.run(farm, effects);
  }

  async #resynchronise(): Promise<void> {
    if (!(await this.#options.lead.confirm())) this.#depose("the lease is over");
    await this.#rebuild();
  }

  /** Invariant 2. Answers of the lost group are never given; everything that is asked may be asked again. */
  async #rebuild(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        this.#mustRebuild = false;
        await this.#ports.prepare();
        if (!this.#hasMemory) {
          await Promise.all([this.#memory.load(), this.#registry.load(), this.#pairing.load()]);
          await recallBlocked(this.#registry, this.#memory, this.#ports.history);
        }
        this.#hasMemory = true;
        const { chains, lastSequence, removed, damaged } = await this.#ports.records.load();
        const fence = await this.#ports.records.fence(lastSequence);
        if (!fence.ok) continue;
        for (const { key, error } of damaged)
          this.#log.error({ key, err: error }, "a chain's record cannot be decoded");
        for (const id of removed) this.#ended.set(id, this.#clock.monotonic());
        this.#answers.forgetAll();
        this.#watch.repeatAll();
        this.#pairing.pushAgain();
        this.#farm = { ...this.#farm, chains: new Map(chains.map((chain) => [chain.id, chain])) };
        this.#lastSequence = fence.lastSequence;
        this.#log.info(
          { live: chains.length, lastSequence: fence.lastSequence },
          "the farm is rebuilt from its records",
        );
        return this.#interpreter.run(this.#farm, impliedEffects(this.#farm));
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        this.#log.warn({ err: error }, "the records cannot be read yet");
        await this.#clock.pause(200, signal);
      }
    }
  }

  async #beat(): Promise<void> {
    while (await this.#clock.pause(beatMs, this.#stopping.signal)) {
      this.#watch.check();
      if (this.#options.lead.isLeading()) void this.#pairing.push();
      this.#lookout.check(this.#farm);
      // The history has no fence: what a replaced one has gathered may be older than what is there.
      if (this.#options.lead.isLeading()) this.#interpreter.archive();
      this.#forgetEnded();
      this.#mailbox.post({ kind: "time-passed" });
      if (this.#interpreter.takeFailure()) this.#interpreter.run(this.#farm, impliedEffects(this.#farm));
    }
  }

  #forgetEnded(): void {
    const before = this.#clock.monotonic() - this.#ports.records.removedMs;
    for (const [chain, endedAt] of this.#ended) {
      // In the order of their ends.
      if (endedAt > before) return;
      this.#ended.delete(chain);
    }
  }

  #archived(record: Chain): void {
    const { id: chain } = record;
    this.#ended.set(chain, this.#clock.monotonic());
    for (const job of JobName.options) this.#progress.delete(jobRef(chain, job));
    this.#mailbox.post({ kind: "chain-archived", chain, record });
  }
}
