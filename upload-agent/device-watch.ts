/**
 * Sees devices and says so: those that announce themselves, and those that jobs wait for, which are connected to again and again
 * because a device that sleeps is awake for seconds.
 *
 * 1. No connection is held, and nothing is sent but one question when an API begins to answer: who it is. Another device may have the
 *    address, in another network or since yesterday.
 * 2. An awaited device that has not answered is tried each `knockEveryMs`, or as often as `knocksMax` at a time allow.
 * 3. What is new is said at once; what has been said before again after `repeatMs` for an awaited device, and `reminderMs` for others.
 * 4. A list that is not repeated is forgotten, so that nobody knocks at a device that may be flashed by now.
 */
import { z } from "zod";
import type { Clock } from "#actor/clock.ts";
import type { Listening } from "#actor/coordinator-ports.ts";
import { Mailbox } from "#actor/mailbox.ts";
import { once, type Service } from "#actor/service.ts";
import { type AwaitedDevice, namesOf, repeatMs, type Sighting, sightingsMax } from "#protocol/sighting.ts";
import { reachDevice } from "#upload-agent/device-connection.ts";
import { AwaitedAddresses, type LocalAddresses } from "#upload-agent/device-watch-addresses.ts";
import type { Mdns } from "#upload-agent/mdns.ts";

/** Within a second of its start a device is found, wherever nothing but its port tells of it. */
const knockEveryMs = 800;
/** A device is asked for no longer than this who it is; one that is encrypted or busy is taken for the one that is awaited. */
const identifyMsMax = 500;
/** One that answers is awake, and about to be flashed. */
const knockAgainMs = 5_000;
/** A device on the same network answers in milliseconds, on a mesh in half a second. */
const connectMsMax = 1_000;
/** Fifty sleeping devices, which take a second each, are tried every second; more of them less often. */
const knocksMax = 50;
const lookEveryMs = 100;
const addressesTriedMax = 2;
/** Three lists that have not come: there is no coordinator. */
const listKeptMs = 30_000;
const reminderMs = 60_000;
/** Two words, heard and answered, of each device that multicast DNS remembers. */
const saidMax = 10_000;
const unsaidMax = 5_000;
/** A thousand sightings a second, whatever the network claims. */
const messagePauseMs = 100;

export interface DeviceWatchOptions {
  /** Left out where there is no multicast DNS. */
  readonly mdns?: LocalAddresses & Pick<Mdns, "onSighting">;
  readonly onAwaited: (handle: (devices: readonly AwaitedDevice[]) => void) => Listening;
  /** At most `sightingsMax` at a time. */
  readonly publish: (seen: readonly Sighting[]) => void;
  readonly clock: Clock;
}

interface Watched {
  readonly device: AwaitedDevice;
  /** On the monotonic clock; never while a knock is under way. */
  nextAt: number;
  /** What was seen when it began to answer, for as long as it does. */
  answer?: Answer | undefined;
}

type Answer = Omit<Sighting, "at">;

/** What a device may say of itself; one that says something else is no device of ESPHome. */
const Said = z.object({
  name: z.string().regex(/^[\w-]{1,63}$/),
  mac: z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i),
  esphomeVersion: z.string().max(40),
});

export class DeviceWatch implements Service {
  readonly #options: DeviceWatchOptions;
  readonly #clock: Clock;
  readonly #addresses: AwaitedAddresses;
  readonly #stopping = new AbortController();
  readonly #listening: { stop(): void }[] = [];
  readonly #loops = new Set<Promise<void>>();
  readonly #unsaid = new Mailbox<Sighting>(unsaidMax);
  /** What was said last, by how it was seen and by name. */
  readonly #said = new Map<string, { readonly text: string; readonly at: number }>();
  #awaited: ReadonlyMap<string, Watched> = new Map();
  #awaitedUntil = 0;
  #isKnocking = false;

  constructor(options: DeviceWatchOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#addresses = new AwaitedAddresses(options.mdns, options.clock);
  }

  readonly start = once(async (): Promise<void> => {
    if (this.#stopping.signal.aborted) return;
    const { mdns, onAwaited } = this.#options;
    if (mdns !== undefined) this.#listening.push(mdns.onSighting((sighting) => this.#see(sighting)));
    this.#listening.push(onAwaited((devices) => this.#await(devices)));
    this.#run(this.#say());
  });

  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    for (const one of this.#listening) one.stop();
    await Promise.allSettled(this.#loops);
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #run(loop: Promise<void>): void {
    const settled = loop.finally(() => this.#loops.delete(settled));
    this.#loops.add(settled);
  }

  #await(devices: readonly AwaitedDevice[]): void {
    const before = this.#awaited;
    this.#awaitedUntil = this.#clock.monotonic() + listKeptMs;
    this.#awaited = new Map(devices.map((device) => [device.name, this.#awaiting(device, before.get(device.name))]));
    if (this.#isKnocking || this.#awaited.size === 0 || this.#stopping.signal.aborted) return;
    this.#isKnocking = true;
    this.#run(this.#knock());
  }

  #awaiting(device: AwaitedDevice, before: Watched | undefined): Watched {
    if (before !== undefined && JSON.stringify(before.device) === JSON.stringify(device)) return before;
    // It matters from now on: its next sign of life is news.
    for (const via of ["mdns", "api"] as const) this.#said.delete(saidKey(via, device.name));
    return { device, nextAt: -Infinity };
  }

  /** Invariant 2, until nobody is awaited any more. */
  async #knock(): Promise<void> {
    const { signal } = this.#stopping;
    const knocks = new Set<Promise<void>>();
    while (this.#awaited.size > 0 && !signal.aborted) {
      const now = this.#clock.monotonic();
      // Invariant 4.
      if (now > this.#awaitedUntil) this.#awaited = new Map();
      const due = [...this.#awaited.values()].filter(({ nextAt }) => nextAt <= now);
      due.sort((a, b) => a.nextAt - b.nextAt);
      for (const one of due.slice(0, knocksMax - knocks.size)) {
        const knock = this.#knockAt(one).finally(() => knocks.delete(knock));
        knocks.add(knock);
      }
      await this.#clock.pause(lookEveryMs, signal);
    }
    this.#isKnocking = false;
    await Promise.all(knocks);
  }

  async #knockAt(watched: Watched): Promise<void> {
    const { device, answer: before } = watched;
    const beganAt = this.#clock.monotonic();
    const port = device.apiPort ?? device.otaPort;
    watched.nextAt = Infinity;
    const address = port === undefined ? undefined : await this.#answeringAddress(device.host, port);
    if (address === undefined || port === undefined) watched.answer = undefined;
    else if (before?.addresses[0] !== address) watched.answer = await this.#identify(device, address, port);
    // It sleeps again, or is another one: its next answer is news.
    if (before !== undefined && watched.answer !== before) this.#said.delete(saidKey("api", before.name));
    if (watched.answer !== undefined) this.#see({ ...watched.answer, at: this.#clock.now() });
    watched.nextAt = beganAt + (watched.answer === undefined ? knockEveryMs : knockAgainMs);
  }

  async #identify({ name, host, apiPort }: AwaitedDevice, address: string, port: number): Promise<Answer> {
    const seen: Answer = { name, host, addresses: [address], port, via: "api" };
    if (apiPort === undefined) return seen;
    const target = { kind: "ota", host: address, port, encrypted: false, name, api: { port } } as const;
    // Ciphers and all are loaded when a device is there to be asked.
    const { askDevice } = await import("#upload-agent/native-api.ts");
    const asked = await askDevice(target, { signal: this.#stopping.signal, timeoutMs: identifyMsMax });
    const said = asked.kind === "answered" ? Said.safeParse(asked.report) : undefined;
    if (said?.success !== true) return seen;
    return { ...seen, name: said.data.name, mac: said.data.mac.toUpperCase(), version: said.data.esphomeVersion };
  }

  async #answeringAddress(host: string, port: number): Promise<string | undefined> {
    const { signal } = this.#stopping;
    const addresses = (await this.#addresses.of(host, signal)).slice(0, addressesTriedMax);
    const refusals = await Promise.all(
      addresses.map((address) => reachDevice({ host: address, port }, { withinMs: connectMsMax, signal })),
    );
    return addresses.find((_, index) => refusals[index] === undefined);
  }

  /** Invariant 3. */
  #see(sighting: Sighting): void {
    const key = saidKey(sighting.via, sighting.name);
    const text = JSON.stringify({ ...sighting, at: 0 });
    const now = this.#clock.monotonic();
    const before = this.#said.get(key);
    const quietMs = namesOf(sighting).some((name) => this.#awaited.has(name)) ? repeatMs : reminderMs;
    if (before?.text === text && now - before.at < quietMs) return;
    // A full mailbox says nothing; the device is seen again.
    if (!this.#unsaid.post(sighting)) return;
    this.#said.delete(key);
    this.#said.set(key, { text, at: now });
    const [oldest] = this.#said.keys();
    if (this.#said.size > saidMax && oldest !== undefined) this.#said.delete(oldest);
  }

  async #say(): Promise<void> {
    const { signal } = this.#stopping;
    do {
      const seen = await this.#unsaid.take(sightingsMax, signal);
      if (seen.length > 0) this.#options.publish(seen);
    } while (await this.#clock.pause(messagePauseMs, signal));
  }
}

function saidKey(via: Sighting["via"], name: string): string {
  return `${via} ${name}`;
}
