/** Who of the agents is there, by the rules of `coordinator/agent-watch.ts`. */
import type { Clock } from "#actor/clock.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { AgentId } from "#protocol/ids.ts";
import { presenceTtlMs } from "#protocol/limits.ts";

export class SimulatedWatch {
  readonly #clock: Clock;
  readonly #post: (event: FarmEvent) => void;
  readonly #heard = new Map<AgentId, { announcement: Announcement; text: string; at: number; isGone: boolean }>();
  #listeningSince: number;

  constructor(clock: Clock, present: readonly Announcement[], post: (event: FarmEvent) => void) {
    this.#clock = clock;
    this.#post = post;
    this.#listeningSince = clock.monotonic();
    for (const announcement of present) this.hear(announcement);
  }

  hear(announcement: Announcement): void {
    const text = JSON.stringify(announcement);
    const before = this.#heard.get(announcement.agent);
    const isNews = before?.text !== text || before.isGone || announcement.holding.length > 0;
    if (isNews) this.#post({ kind: "agent-announced", announcement });
    this.#heard.set(announcement.agent, { announcement, text, at: this.#clock.monotonic(), isGone: false });
  }

  check(): void {
    const now = this.#clock.monotonic();
    if (now - this.#listeningSince < presenceTtlMs) return;
    for (const [agent, heard] of this.#heard) {
      if (heard.isGone || now - Math.max(heard.at, this.#listeningSince) < presenceTtlMs) continue;
      heard.isGone = true;
      this.#post({ kind: "agent-vanished", agent });
    }
  }

  restart(present: readonly Announcement[]): void {
    this.#listeningSince = this.#clock.monotonic();
    for (const announcement of present) this.hear(announcement);
  }

  /** Says everything again at the next statement or beat, because the farm may have missed it. */
  forget(): void {
    for (const heard of this.#heard.values()) {
      heard.text = "";
      heard.isGone = false;
    }
  }
}
