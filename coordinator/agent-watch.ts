/**
 * Follows the agents' statements and decides by a clock of its own who is gone: the presence bucket lives in the server's
 * memory, so its silence after a server restart says nothing about the agents.
 */
import type { Clock } from "#actor/clock.ts";
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { presenceTtlMs } from "#protocol/limits.ts";

type PresencePorts = Pick<
  CoordinatorPorts,
  "watchPresence" | "onDisconnect" | "onReconnect" | "isClosed" | "isConnected"
>;

interface Heard {
  /** The last statement as text. */
  text: string;
  /** On the monotonic clock. */
  at: number;
  isGone: boolean;
  /** It works on a build, which another one could have at once if it is dead. */
  readonly isBuilding: boolean;
  /** At how many beats in a row the server has known nobody of its name. */
  missed: number;
}

/** A connection that broke is made again within a second; a process that was killed is not. */
const missedMax = 3;
/** After the coordinator itself has connected: the agents' clients try again every 150 ms. */
const reconnectingMsMax = 1_000;

export class AgentWatch {
  readonly #ports: PresencePorts;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #post: (event: FarmEvent) => boolean;
  readonly #isPaired: (agent: AgentId, lane: Lane) => boolean;
  /** Agents whose statements are ignored, each told of once. */
  readonly #strangers = new Set<AgentId>();
  readonly #heard = new Map<AgentId, Heard>();
  #restart: AbortController | undefined;
  /** Nobody is gone before the watch itself has listened this long. */
  #listeningSince: number;
  /** Whether the server is there; while it is not, silence says nothing. */
  #isConnected = true;

  constructor(
    ports: PresencePorts,
    clock: Clock,
    log: Log,
    post: (event: FarmEvent) => boolean,
    isPaired: (agent: AgentId, lane: Lane) => boolean,
  ) {
    this.#ports = ports;
    this.#clock = clock;
    this.#log = log;
    this.#post = post;
    this.#isPaired = isPaired;
    this.#listeningSince = clock.monotonic();
  }

  /** Listens until the signal fires, through outages. */
  async run(signal: AbortSignal): Promise<void> {
    const listening = [
      this.#ports.onDisconnect(() => (this.#isConnected = false)),
      this.#ports.onReconnect(() => {
        this.#isConnected = true;
        this.#listeningSince = this.#clock.monotonic();
        this.#restart?.abort();
      }),
    ];
    while (!signal.aborted) {
      this.#restart = new AbortController();
      this.#listeningSince = this.#clock.monotonic();
      try {
        await this.#ports.watchPresence(AbortSignal.any([signal, this.#restart.signal]), (statement) =>
          this.#hear(statement),
        );
      } catch (error) {
        this.#log.debug({ err: error }, "the presence watch broke");
      }
      await this.#clock.pause(100, signal);
    }
    for (const one of listening) one.stop();
  }

  #hear(announcement: Announcement): void {
    if (!this.#isPaired(announcement.agent, announcement.lane)) return this.#ignore(announcement);
    this.#strangers.delete(announcement.agent);
    const text = JSON.stringify(announcement);
    const before = this.#heard.get(announcement.agent);
    const isNews = before?.text !== text || before.isGone || announcement.holding.length > 0;
    const isTaken = isNews ? this.#post({ kind: "agent-announced", announcement }) : true;
    if (!isTaken) return;
    const { agent, lane, holding } = announcement;
    const isBuilding = lane === "compile" && holding.length > 0;
    this.#heard.set(agent, { text, at: this.#clock.monotonic(), isGone: false, isBuilding, missed: 0 });
  }

  /** With a token that is good, and not in the registry: of a farm that was restored from a backup, or revoked this moment. */
  #ignore({ agent, lane, host }: Announcement): void {
    if (this.#strangers.has(agent)) return;
    this.#strangers.add(agent);
    this.#log.warn({ agent, lane, host }, "an agent that is not paired states itself: it gets no jobs");
  }

  /** It may not work any more: its jobs are treated as those of one that is gone, and it is not heard again. */
  dismiss(agent: AgentId): void {
    const heard = this.#heard.get(agent);
    if (heard !== undefined && !heard.isGone) this.#giveUp(agent, heard, "it was revoked");
  }

  /** Called when what was posted may have been lost with its commit: every statement is news again, and every silence. */
  repeatAll(): void {
    for (const heard of this.#heard.values()) {
      heard.text = "";
      heard.isGone = false;
    }
  }

  /** Called at each beat of the coordinator: posts the agents whose presence has ended. */
  check(): void {
    const now = this.#clock.monotonic();
    const listeningMs = now - this.#listeningSince;
    if (!this.#isConnected || listeningMs < reconnectingMsMax || this.#ports.isClosed()) return;
    for (const [agent, heard] of this.#heard) {
      if (heard.isGone) continue;
      const silentMs = Math.min(now - heard.at, listeningMs);
      if (silentMs >= presenceTtlMs) this.#giveUp(agent, heard, "it is silent");
      else if (heard.isBuilding) void this.#lookFor(agent, heard);
    }
  }

  /**
   * The presence needs seconds to tell a killed agent from a slow one; the server knows its broken connection at once. Flashes
   * wait for the presence: nothing is gained by taking them for lost earlier.
   */
  async #lookFor(agent: AgentId, heard: Heard): Promise<void> {
    if (await this.#ports.isConnected(agent)) {
      heard.missed = 0;
      return;
    }
    heard.missed += 1;
    const isCurrent = this.#heard.get(agent) === heard && !heard.isGone && this.#isConnected;
    if (isCurrent && heard.missed >= missedMax) this.#giveUp(agent, heard, "its connection is gone");
  }

  #giveUp(agent: AgentId, heard: Heard, reason: string): void {
    if (!this.#post({ kind: "agent-vanished", agent })) return;
    heard.isGone = true;
    this.#log.warn({ agent, reason }, "the agent is gone");
  }
}
