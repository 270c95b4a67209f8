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
import { presenceTtlMs } from "#protocol/limits.ts";

type PresencePorts = Pick<CoordinatorPorts, "watchPresence" | "onDisconnect" | "onReconnect" | "isClosed">;

export class AgentWatch {
  readonly #ports: PresencePorts;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #post: (event: FarmEvent) => boolean;
  /** Last statement as text, and when it was heard on the monotonic clock. */
  readonly #heard = new Map<AgentId, { text: string; at: number; isGone: boolean }>();
  #restart: AbortController | undefined;
  /** Nobody is gone before the watch itself has listened this long. */
  #listeningSince: number;
  /** Whether the server is there; while it is not, silence says nothing. */
  #isConnected = true;

  constructor(ports: PresencePorts, clock: Clock, log: Log, post: (event: FarmEvent) => boolean) {
    this.#ports = ports;
    this.#clock = clock;
    this.#log = log;
    this.#post = post;
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
    const text = JSON.stringify(announcement);
    const before = this.#heard.get(announcement.agent);
    const isNews = before?.text !== text || before.isGone || announcement.holding.length > 0;
    const isTaken = isNews ? this.#post({ kind: "agent-announced", announcement }) : true;
    if (isTaken) this.#heard.set(announcement.agent, { text, at: this.#clock.monotonic(), isGone: false });
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
    if (!this.#isConnected || now - this.#listeningSince < presenceTtlMs || this.#ports.isClosed()) return;
    for (const [agent, heard] of this.#heard) {
      if (heard.isGone || now - Math.max(heard.at, this.#listeningSince) < presenceTtlMs) continue;
      if (this.#post({ kind: "agent-vanished", agent })) {
        heard.isGone = true;
        this.#log.warn({ agent }, "the agent is gone");
      }
    }
  }
}
