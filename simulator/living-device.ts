/**
 * A simulated device as somebody sees it who does not look inside: it restarts with what it was flashed with, sleeps, goes back to the
 * build before, or does not come back at all.
 *
 * 1. While it restarts or sleeps, its ports are closed; afterwards they are the same ones.
 * 2. It does not fall asleep while it is being updated.
 * 3. After `stop` nobody listens on its ports.
 */
import { untilFired } from "#actor/until-fired.ts";
import type { Clock } from "#actor/clock.ts";
import { once } from "#actor/service.ts";
import { type DeviceOptions, SimulatedDevice } from "#simulator/device.ts";
import type { DeviceBuild } from "#simulator/device-image.ts";
import type { DeviceSession } from "#simulator/ota-conversation.ts";

/** What it does when it has taken an image: `rolls-back`: runs it for a while, and then the one before; `dies`: never starts again. */
export type Afterlife = "rolls-back" | "dies";

export interface LivingDeviceOptions extends DeviceOptions {
  readonly otaPort: number;
  readonly apiPort: number;
  readonly sleep?: { readonly awakeMs: number; readonly asleepMs: number };
  readonly afterwards?: Afterlife;
  readonly clock: Clock;
  readonly onEvent: (event: DeviceEvent) => void;
}

export type DeviceEvent =
  | { readonly kind: "flashed"; readonly bytes: number; readonly build: DeviceBuild }
  /** A connection to its update server that was over before it had an image. */
  | { readonly kind: "broken-off"; readonly receivedBytes: number; readonly announcedBytes: number }
  | { readonly kind: "rebooted"; readonly build: DeviceBuild }
  | { readonly kind: "rolled-back"; readonly build: DeviceBuild }
  | { readonly kind: "asleep" | "awake" | "gone" };

/** A start takes a real one some seconds; a program of the host platform half of one. */
const restartMs = 1_000;
/** Long enough to be seen running, and over before the farm asks again after a minute. */
const rollBackAfterMs = 15_000;

type Turn = "off" | "restart" | "sleep" | "roll-back";

export class LivingDevice implements AsyncDisposable {
  readonly #options: LivingDeviceOptions;
  readonly #off = new AbortController();
  #build: DeviceBuild;
  /** What it goes back to (`rolls-back`). */
  #before: DeviceBuild | undefined;
  #living: Promise<void> = Promise.resolve();

  private constructor(options: LivingDeviceOptions) {
    this.#options = options;
    this.#build = options.build;
  }

  /** Resolves when its ports are open. Throws what `listen` throws. */
  static async start(options: LivingDeviceOptions): Promise<LivingDevice> {
    const living = new LivingDevice(options);
    living.#living = living.#live(await living.#switchOn());
    return living;
  }

  readonly stop = once(async (): Promise<void> => {
    this.#off.abort();
    await this.#living;
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #live(first: SimulatedDevice): Promise<void> {
    const { clock, afterwards, sleep, onEvent } = this.#options;
    const { signal } = this.#off;
    for (let device = first; ; device = await this.#switchOn()) {
      const turn = await this.#turnOf(device);
      if (turn === "sleep") await device.settled();
      await device[Symbol.asyncDispose]();
      if (turn === "off") return;
      if (turn === "restart" && afterwards === "dies") return onEvent({ kind: "gone" });
      if (turn === "sleep") onEvent({ kind: "asleep" });
      if (!(await clock.pause(turn === "sleep" ? (sleep?.asleepMs ?? 0) : restartMs, signal))) return;
      if (turn === "roll-back") [this.#build, this.#before] = [this.#before ?? this.#build, undefined];
      if (turn === "sleep") onEvent({ kind: "awake" });
      else onEvent({ kind: turn === "restart" ? "rebooted" : "rolled-back", build: this.#build });
    }
  }

  #switchOn(): Promise<SimulatedDevice> {
    return SimulatedDevice.start({ ...this.#options, build: this.#build });
  }

  /** What ends this life of it. */
  async #turnOf(device: SimulatedDevice): Promise<Turn> {
    const { clock, sleep, afterwards, onEvent } = this.#options;
    const restart = new AbortController();
    device.onSessionOver = (session) => {
      const event = eventOf(session, device);
      if (event !== undefined) onEvent(event);
      if (!session.committed) return;
      if (afterwards === "rolls-back") this.#before = this.#build;
      this.#build = device.build;
      restart.abort();
    };
    const ended = AbortSignal.any([restart.signal, this.#off.signal]);
    const isGoingBack = this.#before !== undefined;
    const forMs = isGoingBack ? rollBackAfterMs : sleep?.awakeMs;
    if (forMs === undefined) await untilFired(ended);
    else await clock.pause(forMs, ended);
    if (this.#off.signal.aborted) return "off";
    if (restart.signal.aborted) return "restart";
    return isGoingBack ? "roll-back" : "sleep";
  }
}

function eventOf(session: DeviceSession, { build, image }: SimulatedDevice): DeviceEvent | undefined {
  const { committed, receivedBytes, announcedBytes } = session;
  if (committed) return { kind: "flashed", bytes: image?.length ?? announcedBytes, build };
  // The farm looks whether the port answers before it flashes.
  return announcedBytes === 0 ? undefined : { kind: "broken-off", receivedBytes, announcedBytes };
}
