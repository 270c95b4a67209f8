/**
 * The server as the coordinator and the agents meet it: records fenced by their sequence, lanes that deliver at least once,
 * statements that expire. Records and history are files; lanes and statements live in memory and end with a restart.
 */
import type { Announcement } from "#protocol/agent.ts";
import { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { presenceTtlMs } from "#protocol/limits.ts";
import type { Dispatch } from "#protocol/messages.ts";
import type { SimulatedNetwork } from "#test/simulation/simulated-network.ts";
import type { SimulatedTime } from "#test/simulation/simulated-time.ts";

export type Changes = ReadonlyMap<ChainId, Chain | undefined>;
export type CommitOutcome = { readonly ok: true; readonly sequence: number } | { readonly ok: false };

interface LaneMessage {
  readonly id: string;
  readonly dispatch: Dispatch;
  /** When an unacknowledged delivery is given up; undefined before the first one. */
  deliveredUntil?: number;
}

/** Redelivery of a message that was delivered and not acknowledged, as in `bus/lanes.ts`. */
const ackWaitMs = 10_000;
/** Much shorter than in life, so that dispatches which are published again also come twice. */
const dedupWindowMs = 15_000;

/** As `bus/chain-store.ts` has it. */
const markerMs = 10 * 60_000;

export class SimulatedServer {
  keepsMarkers = true;
  readonly history = new Map<ChainId, Chain>();
  readonly #records = new Map<ChainId, { text: string; chain: Chain }>();
  readonly #lanes = new Map<
    string,
    { slots: number; messages: LaneMessage[]; deliver: (message: LaneMessage) => void }
  >();
  readonly #published = new Map<string, number>();
  readonly #statements = new Map<string, { announcement: Announcement; at: number }>();
  readonly #time: SimulatedTime;
  readonly #network: SimulatedNetwork;
  readonly #onWrite: (id: ChainId, before: Chain | undefined, after: Chain | undefined) => void;
  readonly #removedAt = new Map<ChainId, number>();
  #sequence = 0;
  #lastWrite = "";

  constructor(
    time: SimulatedTime,
    network: SimulatedNetwork,
    onWrite: (id: ChainId, before: Chain | undefined, after: Chain | undefined) => void,
  ) {
    this.#time = time;
    this.#network = network;
    this.#onWrite = onWrite;
  }

  get sequence(): number {
    return this.#sequence;
  }

  record(id: ChainId): Chain | undefined {
    return this.#records.get(id)?.chain;
  }

  /** As a coordinator reads them when it starts: decoded from their bytes. */
  load(): readonly Chain[] {
    return [...this.#records.values()].map(({ text }) => Chain.parse(JSON.parse(text)));
  }

  /** Ids of all live records. */
  ids(): readonly ChainId[] {
    return [...this.#records.keys()];
  }

  /** Lands only behind the write that the writer expects; a number is a sequence, a text the name of a write. */
  write(changes: Changes, name: string, expected: number | string): CommitOutcome {
    if (expected !== (typeof expected === "number" ? this.#sequence : this.#lastWrite)) return { ok: false };
    if ([...changes].some(([id, chain]) => chain !== undefined && this.#isRemoved(id))) return { ok: false };
    this.#lastWrite = name;
    for (const [id, chain] of changes) {
      const before = this.record(id);
      this.#sequence += 1;
      if (chain === undefined) {
        this.#records.delete(id);
        this.#removedAt.set(id, this.#time.now);
      } else this.#records.set(id, { text: JSON.stringify(chain), chain });
      this.#onWrite(id, before, chain);
    }
    return { ok: true, sequence: this.#sequence };
  }

  /** Binds a lane to whatever process of the agent runs at the moment. */
  consume(agent: string, slots: number, deliver: (dispatch: Dispatch, done: () => void) => void): void {
    const known = this.#lanes.get(agent);
    const hand = (message: LaneMessage) =>
      this.#network.send("server", agent, () => {
        deliver(message.dispatch, () => this.#network.send(agent, "server", () => this.#acknowledge(agent, message)));
      });
    if (known === undefined) this.#lanes.set(agent, { slots, messages: [], deliver: hand });
    else known.deliver = hand;
    this.#pump(agent);
  }

  publish(agent: string, id: string, dispatch: Dispatch): void {
    const lane = this.#lanes.get(agent);
    const publishedAt = this.#published.get(id);
    if (lane === undefined || (publishedAt !== undefined && this.#time.now - publishedAt < dedupWindowMs)) return;
    this.#published.set(id, this.#time.now);
    lane.messages.push({ id, dispatch });
    this.#pump(agent);
  }

  state(announcement: Announcement): void {
    this.#statements.set(announcement.agent, { announcement, at: this.#time.now });
  }

  /** The statements that have not expired. */
  statements(): readonly Announcement[] {
    return [...this.#statements.values()]
      .filter(({ at }) => this.#time.now - at < presenceTtlMs)
      .map(({ announcement }) => announcement);
  }

  /** Everything in memory is gone; the agents bind their lanes again by themselves. */
  restart(): void {
    this.#network.dropAll();
    for (const lane of this.#lanes.values()) lane.messages = [];
    this.#published.clear();
    this.#statements.clear();
  }

  /** A removed record leaves a marker, on which a creation of the same record fails. */
  #isRemoved(id: ChainId): boolean {
    return this.keepsMarkers && this.#time.now - (this.#removedAt.get(id) ?? -markerMs) < markerMs;
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
