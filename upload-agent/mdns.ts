/**
 * Devices that announce themselves over multicast DNS, and the addresses of `.local` names for systems that do not know them.
 *
 * 1. Whatever the network says or lacks, nothing is thrown: where multicast is not possible this is said once, and tried again.
 * 2. No more than `devicesMax` devices and as many hosts are remembered; the one heard longest ago goes first.
 * 3. A device is asked at most each `askAgainMs` for the same that its announcements leave open.
 */
import { isIP } from "node:net";
import type { Clock } from "#actor/clock.ts";
import type { Log } from "#actor/log.ts";
import { once, type Service } from "#actor/service.ts";
import { type Sighting, sightingAddressesMax } from "#protocol/sighting.ts";
import type { NotConnected } from "#upload-agent/device-connection.ts";
import { MdnsLink, type MdnsLinkOptions, mdnsPort, ownNetworks, type Question } from "#upload-agent/mdns-link.ts";
import { isLocal, localName } from "#upload-agent/local-name.ts";
import { type DeviceWord, esphomeService, readPacket } from "#upload-agent/mdns-records.ts";

/** Five thousand devices are 6 MB, with what the watch remembers of them (measured 2026-11). */
const devicesMax = 5_000;
/** A device that has just joined the network announces itself; the question is for those that were there before. */
const browseEveryMs = 60_000;
/** Multicast is lost easily: the first questions are repeated (RFC 6762, section 5.2). */
const firstPausesMs: readonly number[] = [1_000, 3_000];
const askAgainMs = 10_000;
/** Answers to one question come spread over 120 ms (RFC 6762, section 6); what is open then is asked for together. */
const openAfterMs = 150;
const openMax = 100;
/** Uncompressed they fill a packet of Ethernet. */
const questionsMax = 20;
const resolveAgainMs = 500;

export interface MdnsOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Left out: every network of this machine, and the port of multicast DNS. */
  readonly networks?: MdnsLinkOptions["networks"];
  readonly port?: number;
}

interface Known extends DeviceWord {
  /** What it was asked for last, and when, on the monotonic clock. */
  readonly askedFor: string;
  readonly askedAt: number;
}

export class Mdns implements Service {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #linkOptions: MdnsLinkOptions;
  readonly #stopping = new AbortController();
  readonly #listeners = new Set<(sighting: Sighting) => void>();
  /** Both in the order in which they were heard last. */
  readonly #devices = new Map<string, Known>();
  readonly #addresses = new Map<string, readonly string[]>();
  readonly #resolving = new Map<string, Set<(addresses: readonly string[]) => void>>();
  #open: Question[] = [];
  #link: MdnsLink | undefined;
  #hasComplained = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor({ clock, log, networks = ownNetworks, port = mdnsPort }: MdnsOptions) {
    this.#clock = clock;
    this.#log = log;
    this.#linkOptions = { networks, port, hear: (packet) => this.#hear(packet) };
  }

  /** Resolves when the first question is asked, or cannot be. */
  readonly start = once(async (): Promise<void> => {
    const first = this.#browse();
    this.#running = first;
    await first;
    if (!this.#stopping.signal.aborted) this.#running = this.#browseOn();
  });

  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    await this.#running;
    await this.#link?.close();
    this.#link = undefined;
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Calls back whenever a device has said something, also something known. */
  onSighting(call: (sighting: Sighting) => void): { stop(): void } {
    this.#listeners.add(call);
    return { stop: () => void this.#listeners.delete(call) };
  }

  /** What was heard last of a `.local` name; perhaps long ago. */
  addressesOf(host: string): readonly string[] {
    return this.#addresses.get(localName(host)) ?? [];
  }

  /** Asks the network for the addresses of a `.local` name. */
  async resolve(
    host: string,
    { withinMs, signal }: { readonly withinMs: number; readonly signal: AbortSignal },
  ): Promise<readonly string[] | NotConnected> {
    const name = localName(host);
    if (!isLocal(name)) return { kind: "not-connected", detail: `${host} is no name of multicast DNS` };
    const over = AbortSignal.any([signal, this.#stopping.signal]);
    const found = Promise.withResolvers<readonly string[]>();
    const waiting = this.#resolving.get(name) ?? new Set();
    this.#resolving.set(name, waiting.add(found.resolve));
    const hasFound = new AbortController();
    const asking = this.#askFor(name, withinMs, AbortSignal.any([over, hasFound.signal]));
    const addresses = await Promise.race([found.promise, asking]);
    hasFound.abort();
    waiting.delete(found.resolve);
    if (waiting.size === 0) this.#resolving.delete(name);
    if (addresses !== undefined) return addresses;
    const detail = this.#link === undefined ? "multicast DNS is not possible here" : `nobody is called ${host} here`;
    return { kind: "not-connected", detail };
  }

  async #askFor(name: string, withinMs: number, signal: AbortSignal): Promise<undefined> {
    const until = this.#clock.monotonic() + withinMs;
    for (let leftMs = withinMs; leftMs > 0 && this.#link !== undefined; leftMs = until - this.#clock.monotonic()) {
      void this.#link.ask(addressQuestions(name));
      if (!(await this.#clock.pause(Math.min(resolveAgainMs, leftMs), signal))) return;
    }
  }

  async #browseOn(): Promise<void> {
    const { signal } = this.#stopping;
    for (let round = 0; await this.#clock.pause(firstPausesMs[round] ?? browseEveryMs, signal); round++) {
      await this.#browse();
    }
  }

  async #browse(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    const link = this.#link ?? (await MdnsLink.open(this.#linkOptions));
    if (typeof link !== "string") {
      this.#link = link;
      await link.ask([{ name: esphomeService, type: "PTR" }]);
    } else if (!this.#hasComplained) {
      this.#hasComplained = true;
      this.#log.warn({ reason: link }, "multicast DNS is not possible here: devices are known by their addresses only");
    }
  }

  #hear(packet: unknown): void {
    const { devices, addresses } = readPacket(packet);
    for (const [host, found] of addresses) {
      remember(this.#addresses, host, inPlaceOf(this.addressesOf(host), found));
      for (const resolve of this.#resolving.get(host) ?? []) resolve(inPlaceOf([], found));
    }
    const words = new Map(devices);
    // Addresses that were asked for come alone.
    for (const host of addresses.keys()) {
      const known = this.#devices.get(host.slice(0, host.indexOf(".")));
      if (known?.service?.host === host && !words.has(known.name)) words.set(known.name, known);
    }
    for (const word of words.values()) this.#learn(word);
  }

  #learn(word: DeviceWord): void {
    if (word.isLeaving) return void this.#devices.delete(word.name);
    const before = this.#devices.get(word.name) ?? { askedFor: "", askedAt: 0 };
    const known: Known = { ...before, ...word };
    remember(this.#devices, word.name, this.#askIfOpen(known));
    const { name, service, texts } = known;
    if (service === undefined) return;
    const addresses = [...this.addressesOf(service.host)];
    const sighting: Sighting = { name, ...service, ...texts, addresses, via: "mdns", at: this.#clock.now() };
    for (const call of this.#listeners) call(sighting);
  }

  /** Invariant 3. */
  #askIfOpen(known: Known): Known {
    const open = openQuestions(known, this.addressesOf(known.service?.host ?? "").length > 0);
    const askedFor = open.map(({ type }) => type).join();
    const now = this.#clock.monotonic();
    const isAsked = askedFor === known.askedFor && now - known.askedAt < askAgainMs;
    if (open.length === 0 || isAsked || this.#open.length >= openMax) return known;
    this.#askLater(open);
    return { ...known, askedFor, askedAt: now };
  }

  #askLater(open: readonly Question[]): void {
    this.#open.push(...open);
    if (this.#open.length > open.length) return;
    void this.#askOpen();
  }

  async #askOpen(): Promise<void> {
    await this.#clock.pause(openAfterMs, this.#stopping.signal);
    const questions = this.#open;
    this.#open = [];
    while (questions.length > 0) await this.#link?.ask(questions.splice(0, questionsMax));
  }
}

/** What a device's announcements have not said yet. */
function openQuestions({ name, service, texts }: Known, hasAddress: boolean): readonly Question[] {
  const instance = `${name}.${esphomeService}`;
  const about = (type: "SRV" | "TXT"): Question => ({ name: instance, type });
  return [
    ...(service === undefined ? [about("SRV")] : []),
    ...(texts === undefined ? [about("TXT")] : []),
    ...(service === undefined || hasAddress ? [] : addressQuestions(service.host)),
  ];
}

function addressQuestions(host: string): readonly Question[] {
  return [
    { name: host, type: "A" },
    { name: host, type: "AAAA" },
  ];
}

/** Addresses of IPv4 and of IPv6 may come one after the other; those of IPv4 come first in every case. */
function inPlaceOf(before: readonly string[], found: readonly string[]): readonly string[] {
  const families = new Set(found.map(isIP));
  const kept = before.filter((address) => !families.has(isIP(address)));
  return [...kept, ...found].sort((a, b) => isIP(a) - isIP(b)).slice(0, sightingAddressesMax);
}

/** Invariant 2. */
function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > devicesMax && oldest !== undefined) map.delete(oldest);
}
