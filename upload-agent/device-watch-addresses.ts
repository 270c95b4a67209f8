/**
 * Where devices that are awaited may be found. They are asked for all the time and most of them sleep, so nothing that takes long is
 * done twice within seconds.
 */
import { isIP } from "node:net";
import type { Clock } from "#actor/clock.ts";
import { lookUp } from "#upload-agent/device-connection.ts";
import { isLocal } from "#upload-agent/local-name.ts";
import type { Mdns } from "#upload-agent/mdns.ts";

/** As many as are awaited at most. */
const hostsMax = 10_000;
const keepMs = 60_000;
const missingKeepMs = 10_000;
const resolveMsMax = 1_000;
/** Each holds one of Node's four threads for many seconds where nobody answers, and disk and artifacts need them too. */
const lookupsMax = 2;

export type LocalAddresses = Pick<Mdns, "addressesOf" | "resolve">;

interface Resolved {
  readonly addresses: readonly string[];
  /** On the monotonic clock. */
  readonly until: number;
}

export class AwaitedAddresses {
  readonly #mdns: LocalAddresses | undefined;
  readonly #clock: Clock;
  readonly #resolved = new Map<string, Resolved>();
  #lookups = 0;

  constructor(mdns: LocalAddresses | undefined, clock: Clock) {
    this.#mdns = mdns;
    this.#clock = clock;
  }

  /** None when nobody knows the host now, or others are being looked up. Takes a second at most. */
  async of(host: string, signal: AbortSignal): Promise<readonly string[]> {
    if (isIP(host) !== 0) return [host];
    const heard = this.#mdns?.addressesOf(host) ?? [];
    if (heard.length > 0) return heard;
    const before = this.#resolved.get(host);
    const now = this.#clock.monotonic();
    if (before !== undefined && now < before.until) return before.addresses;
    const found = await this.#resolve(host, signal);
    if (found === undefined) return [];
    const [oldest] = this.#resolved.keys();
    if (this.#resolved.size >= hostsMax && oldest !== undefined) this.#resolved.delete(oldest);
    this.#resolved.set(host, { addresses: found, until: now + (found.length > 0 ? keepMs : missingKeepMs) });
    return found;
  }

  async #resolve(host: string, signal: AbortSignal): Promise<readonly string[] | undefined> {
    if (this.#mdns !== undefined && isLocal(host)) {
      const found = await this.#mdns.resolve(host, { withinMs: resolveMsMax, signal });
      return "kind" in found ? [] : found;
    }
    if (this.#lookups >= lookupsMax) return undefined;
    const isOver = new AbortController();
    const patience = AbortSignal.any([signal, isOver.signal]);
    const found = await Promise.race([this.#lookUp(host), this.#clock.pause(resolveMsMax, patience)]);
    isOver.abort();
    return typeof found === "boolean" ? [] : found;
  }

  async #lookUp(host: string): Promise<readonly string[]> {
    this.#lookups += 1;
    try {
      const found = await lookUp(host);
      return "kind" in found ? [] : found;
    } finally {
      this.#lookups -= 1;
    }
  }
}
