/**
 * The server as the coordinators and the agents meet it: records fenced by their sequence, lanes that deliver at least once,
 * statements and a lease that expire. Records, history and devices are files; the others live in memory and end with a restart.
 */
import type { DeviceRecord } from "#protocol/admin.ts";
import type { AgentRecord, BuildRecord, DeviceNote, DurationRecord } from "#protocol/records.ts";
import type { Announcement } from "#protocol/agent.ts";
import { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { LeaseHolder } from "#protocol/lease.ts";
import { leadTtlMs, presenceTtlMs } from "#protocol/limits.ts";
import type { Dispatch, StopOrder } from "#protocol/messages.ts";
import type { Invitation, PairedAgent } from "#protocol/pairing.ts";
import type { SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import { SimulatedSubjects } from "#test/simulation/simulated-subjects.ts";
import type { SimulatedTime } from "#test/simulation/simulated-time.ts";

export type Changes = ReadonlyMap<ChainId, Chain | undefined>;
export type CommitOutcome = { readonly ok: true; readonly sequence: number } | { readonly ok: false };

/** Told of what lands in the records. */
export interface WriteWatcher {
  written(id: ChainId, before: Chain | undefined, after: Chain | undefined): void;
  /** Everything of one write has been told. */
  landed(ids: Iterable<ChainId>): void;
}

/** Somebody who hears what agents say of themselves. */
export interface StatementWatch {
  /** Its end in the network. */
  readonly end: string;
  hear(announcement: Announcement): void;
}

interface LaneMessage {
  readonly id: string;
  readonly dispatch: Dispatch;
  /** When an unacknowledged delivery is given up; undefined before the first one. */
  deliveredUntil?: number;
}

interface SimulatedLane {
  /** 0 until an agent has bound the lane. */
  slots: number;
  messages: LaneMessage[];
  deliver: (message: LaneMessage) => void;
}

/** Redelivery of a message that was delivered and not acknowledged, as in `bus/lanes.ts`. */
const ackWaitMs = 10_000;
/** Much shorter than in life, so that dispatches which are published again also come twice. */
const dedupWindowMs = 15_000;

/** As `bus/chain-store.ts` has it. */
export const markerMs = 10 * 60_000;

export class SimulatedServer {
  readonly history = new Map<string, Chain>();
  readonly devices = new Map<string, DeviceRecord>();
  readonly notes = new Map<string, DeviceNote>();
  readonly agents = new Map<string, AgentRecord>();
  readonly paired = new Map<string, PairedAgent>();
  readonly invitations = new Map<string, Invitation>();
  readonly durations = new Map<string, DurationRecord>();
  readonly builds = new Map<string, BuildRecord>();
  readonly subjects: SimulatedSubjects;
  readonly watches = new Set<StatementWatch>();
  /** By the agent's name: how a stop order reaches the process that runs. */
  readonly orders = new Map<string, (order: StopOrder) => void>();
  readonly #records = new Map<ChainId, Chain>();
  readonly #lanes = new Map<string, SimulatedLane>();
  readonly #published = new Map<string, number>();
  readonly #statements = new Map<string, { announcement: Announcement; at: number }>();
  readonly #time: SimulatedTime;
  readonly #network: SimulatedNetwork;
  readonly #watcher: WriteWatcher;
  readonly #removedAt = new Map<ChainId, number>();
  #sequence = 0;
  #lastWrite = "";
  #lease: { readonly holder: LeaseHolder; readonly at: number } | undefined;

  constructor(time: SimulatedTime, network: SimulatedNetwork, watcher: WriteWatcher) {
    this.#time = time;
    this.#network = network;
    this.#watcher = watcher;
    this.subjects = new SimulatedSubjects(network);
  }

  get lease(): LeaseHolder | undefined {
    const lease = this.#lease;
    return lease === undefined || this.#time.now - lease.at >= leadTtlMs ? undefined : lease.holder;
  }

  set lease(holder: LeaseHolder | undefined) {
    this.#lease = holder === undefined ? undefined : { holder, at: this.#time.now };
  }

  record(id: ChainId): Chain | undefined {
    return this.#records.get(id);
  }

  /** As a coordinator reads them when it starts: decoded from their bytes. */
  load(): { chains: readonly Chain[]; removed: readonly ChainId[]; lastSequence: number } {
    const after = this.#time.now - markerMs;
    return {
      chains: [...this.#records.values()].map((chain) => Chain.parse(JSON.parse(JSON.stringify(chain)))),
      removed: [...this.#removedAt].filter(([, at]) => at > after).map(([id]) => id),
      lastSequence: this.#sequence,
    };
  }

  get lastSequence(): number {
    return this.#sequence;
  }

  get isEmpty(): boolean {
    return this.#records.size === 0;
  }

  /** In the order of their first writes. */
  records(): Iterable<Chain> {
    return this.#records.values();
  }

  /** Ids of all live records. */
  ids(): readonly ChainId[] {
    return [...this.#records.keys()];
  }

  /** Lands only behind the write that the writer expects: a number is a sequence, a text the name of a write. No changes: a fence. */
  write(changes: Changes, name: string, expected: number | string): CommitOutcome {
    if (expected !== (typeof expected === "number" ? this.#sequence : this.#lastWrite)) return { ok: false };
    this.#lastWrite = name;
    if (changes.size === 0) this.#sequence += 1;
    for (const [id, chain] of changes) {
      const before = this.record(id);
      this.#sequence += 1;
      if (chain === undefined) {
        this.#records.delete(id);
        this.#removedAt.set(id, this.#time.now);
      } else this.#records.set(id, chain);
      this.#watcher.written(id, before, chain);
    }
    this.#watcher.landed(changes.keys());
    return { ok: true, sequence: this.#sequence };
  }

  /** Binds a lane to whatever process of the agent runs at the moment. */
  consume(agent: string, slots: number, deliver: (dispatch: Dispatch, done: () => void) => void): void {
    const hand = (message: LaneMessage) =>
      this.#network.send("server", agent, () => {
        deliver(message.dispatch, () => this.#network.send(agent, "server", () => this.#acknowledge(agent, message)));
      });
    const lane = this.#lane(agent);
    lane.slots = slots;
    lane.deliver = hand;
    this.#pump(agent);
  }

  publish(agent: string, id: string, dispatch: Dispatch): void {
    const publishedAt = this.#published.get(id);
    if (publishedAt !== undefined && this.#time.now - publishedAt < dedupWindowMs) return;
    this.#published.set(id, this.#time.now);
    this.#lane(agent).messages.push({ id, dispatch });
    this.#pump(agent);
  }

  state(announcement: Announcement): void {
    this.#statements.set(announcement.agent, { announcement, at: this.#time.now });
    for (const watch of this.watches) this.#tell(watch, announcement);
  }

  /** The statements that have not expired, and all that come. */
  watch(watch: StatementWatch): void {
    this.watches.add(watch);
    for (const { announcement, at } of this.#statements.values())
      if (this.#time.now - at < presenceTtlMs) this.#tell(watch, announcement);
  }

  /** In the order of the agent's statements. */
  #tell(watch: StatementWatch, announcement: Announcement): void {
    this.#network.sendInOrder(`${announcement.agent} to ${watch.end}`, "server", watch.end, () => {
      if (this.watches.has(watch)) watch.hear(announcement);
    });
  }

  /** Everything in memory is gone; the agents bind their lanes again by themselves. */
  restart(): void {
    this.#network.dropAll();
    for (const lane of this.#lanes.values()) lane.messages = [];
    this.#published.clear();
    this.#statements.clear();
    this.watches.clear();
    this.#lease = undefined;
  }

  #lane(agent: string): SimulatedLane {
    const known = this.#lanes.get(agent);
    if (known !== undefined) return known;
    const lane: SimulatedLane = { slots: 0, messages: [], deliver: () => undefined };
    this.#lanes.set(agent, lane);
    return lane;
  }

  #acknowledge(agent: string, message: LaneMessage): void {
    const lane = this.#lanes.get(agent);
    if (lane === undefined) return;
    lane.messages = lane.messages.filter((other) => other !== message);
    this.#pump(agent);
  }

  #pump(agent: string): void {
    const lane = this.#lanes.get(agent);
    if (lane === undefined) return;
    const { now } = this.#time;
    let free = lane.slots - lane.messages.filter(({ deliveredUntil }) => (deliveredUntil ?? 0) > now).length;
    for (const message of lane.messages) {
      if (free <= 0) return;
      if ((message.deliveredUntil ?? 0) > now) continue;
      free -= 1;
      message.deliveredUntil = now + ackWaitMs;
      lane.deliver(message);
      this.#time.after(ackWaitMs, () => this.#pump(agent));
    }
  }
}
