/**
 * A device, as the farm cannot cheat it: remembers every flash session and which image it really holds.
 *
 * 1. A session that says nothing for 105 s, or whose process dies, is closed; the old image stays.
 * 2. The image changes only when a session has written its last part, and the device then restarts.
 */
import type { ChainId } from "#protocol/ids.ts";
import { deviceDataTimeoutMs } from "#protocol/limits.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import type { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import type { SimulatedTime } from "#test/simulation/simulated-time.ts";

/** What is wrong with a device or its connection, chosen anew for each session. */
export type SessionFate =
  | "takes-it"
  /** The connection breaks before the last part. */
  | "breaks"
  /** Takes the image, but its acknowledgement is lost. */
  | "acknowledgement-lost"
  /** Takes the image and falls back to the old one, because the new one does not start. */
  | "rolls-back"
  /** Starts the image, which dies within the minute: it is back at the old one. */
  | "rolls-back-later";

export interface FlashSession {
  readonly chain: ChainId;
  readonly attempt: number;
  readonly agent: string;
  readonly build: string;
  readonly openedAt: number;
  readonly fate: SessionFate;
  isOpen: boolean;
  lastWriteAt: number;
  /** The image came whole; whether it starts is another matter. */
  isTaken: boolean;
}

/** Parts of an image; after the last one there is no way back. */
export const partsOfImage = 5;

export class SimulatedDevice {
  readonly host: string;
  readonly sessions: FlashSession[] = [];
  /** The image that it runs, or will run once it is back. */
  installed = "as delivered";
  /** How long one part of an image takes on its way. */
  readonly partMs: number;
  fates: readonly SessionFate[] = ["takes-it"];
  readonly #time: SimulatedTime;
  readonly #random: SimulatedRandom;
  readonly #onOpen: (device: SimulatedDevice, session: FlashSession) => void;
  #awayUntil = 0;

  constructor(
    host: string,
    partMs: number,
    time: SimulatedTime,
    random: SimulatedRandom,
    onOpen: (device: SimulatedDevice, session: FlashSession) => void,
  ) {
    this.host = host;
    this.partMs = partMs;
    this.#time = time;
    this.#random = random;
    this.#onOpen = onOpen;
  }

  get isReachable(): boolean {
    return this.#time.now >= this.#awayUntil;
  }

  /** Out of reach, or restarting. */
  beAway(ms: number): void {
    this.#awayUntil = Math.max(this.#awayUntil, this.#time.now + ms);
  }

  comeBack(): void {
    this.#awayUntil = 0;
  }

  /** What it says it runs, or undefined when nobody answers. */
  probe(): string | undefined {
    return this.isReachable ? this.installed : undefined;
  }

  open(process: SimulatedProcess, what: { chain: ChainId; attempt: number; build: string }): FlashSession | undefined {
    if (!this.isReachable) return undefined;
    const now = this.#time.now;
    const session: FlashSession = {
      ...what,
      agent: process.name,
      openedAt: now,
      fate: this.#random.pick(this.fates),
      isOpen: true,
      lastWriteAt: now,
      isTaken: false,
    };
    this.#onOpen(this, session);
    this.sessions.push(session);
    process.onDeath(() => {
      session.isOpen = false;
    });
    this.#watchSilence(session);
    return session;
  }

  /** Writes the part of this number, from 1. False when the connection is gone or the acknowledgement did not come. */
  write(session: FlashSession, part: number): boolean {
    if (session.isOpen && session.fate === "breaks" && part === partsOfImage) session.isOpen = false;
    if (!session.isOpen) return false;
    session.lastWriteAt = this.#time.now;
    if (part < partsOfImage) return true;
    session.isOpen = false;
    session.isTaken = true;
    const before = this.installed;
    if (session.fate !== "rolls-back") this.installed = session.build;
    this.beAway(this.#random.between(500, 8_000));
    if (session.fate === "rolls-back-later") this.#rollBack(session.build, before);
    return session.fate !== "acknowledgement-lost";
  }

  #rollBack(from: string, to: string): void {
    this.#time.after(this.#random.between(5_000, 40_000), () => {
      if (this.installed !== from) return;
      this.installed = to;
      this.beAway(this.#random.between(500, 8_000));
    });
  }

  #watchSilence(session: FlashSession): void {
    const waitMs = session.lastWriteAt + deviceDataTimeoutMs - this.#time.now;
    this.#time.after(waitMs, () => {
      if (!session.isOpen) return;
      if (this.#time.now - session.lastWriteAt >= deviceDataTimeoutMs) session.isOpen = false;
      else this.#watchSilence(session);
    });
  }
}
