/**
 * One TCP connection to a device: exact reads, and an end that says how it came.
 *
 * 1. What the device sent is read before the end of the connection is reported, also when the end shows first as a failed
 *    write and when this process slept through the arrival.
 * 2. Every wait ends: by bytes, by the end of the connection, by its limit or by `cut`.
 * 3. Bytes nobody reads are bounded; a device that sends more is cut off.
 * 4. One reader or writer at a time.
 */
import { lookup } from "node:dns/promises";
import { isIP, Socket } from "node:net";
import { systemClock } from "#actor/clock.ts";
import { InvariantError, messageOf } from "#protocol/errors.ts";
import { isLocal } from "#upload-agent/local-name.ts";

/** How a connection ended, or why waiting on it did. */
export type Ending =
  | { readonly kind: "closed" }
  | { readonly kind: "broken"; readonly detail: string }
  | { readonly kind: "silent"; readonly limitMs: number }
  | { readonly kind: "flooded"; readonly unreadBytes: number }
  /** It sent what cannot belong to the conversation, so that nothing behind it can be read. */
  | { readonly kind: "garbled"; readonly detail: string }
  | { readonly kind: "cut" };

/** A conversation with a device, in plaintext or through a cipher. */
export interface DeviceLine {
  /** How the conversation ended; `undefined` while it goes on. Bytes may still be left to read. */
  readonly ending: Ending | undefined;
  /** The next byte that was received and not read, without taking it. */
  readonly nextByte: number | undefined;
  /** Exactly `count` bytes; all of them within the limit. */
  read(count: number, withinMs: number): Promise<Uint8Array | Ending>;
  /** Sends fields of the protocol together; a cipher keeps each apart. */
  write(fields: readonly Uint8Array[], withinMs: number): Promise<Ending | undefined>;
  /** Sends last bytes and ends in order. */
  finish(bytes: Uint8Array): Promise<void>;
}

export interface NotConnected {
  readonly kind: "not-connected";
  readonly detail: string;
}

export interface ConnectionLimits {
  readonly connectMs: number;
  /** Invariant 3. */
  readonly unreadBytesMax: number;
  /** How long a last word of the device is awaited after a write failed. */
  readonly lastWordMs: number;
}

/** Survives a failed write, where Node's own socket would throw away what the device sent before it hung up (invariant 1). */
class PatientSocket extends Socket {
  override destroy(error?: NodeJS.ErrnoException): this {
    return error?.syscall === "write" ? this : super.destroy(error);
  }
}

/** A system that knows `.local` names answers in milliseconds, for a device that is there. */
const localNamesAfterMs = 500;

interface Waiting {
  readonly withinMs: number;
  readonly signal: AbortSignal;
}

/** Finds the addresses of a `.local` name without the system. */
export type LocalNames = (host: string, options: Waiting) => Promise<readonly string[] | NotConnected>;

let localNames: LocalNames | undefined;

/**
 * How `.local` names are found where the system's resolver does not know them (a container, a Debian without nss-mdns). For the whole
 * process, as the system's own resolver is; set by its entry, and taken back with `undefined`.
 */
export function resolveLocalNamesBy(names: LocalNames | undefined): void {
  localNames = names;
}

/** The host's addresses in the order of the resolver, without repetitions. */
export async function resolveHost(host: string, options: Waiting): Promise<readonly string[] | NotConnected> {
  if (options.signal.aborted) return { kind: "not-connected", detail: "cancelled" };
  if (isIP(host) !== 0) return [host];
  const givenUp = Promise.withResolvers<NotConnected>();
  const giveUp = (detail: string) => givenUp.resolve({ kind: "not-connected", detail });
  const timer = setTimeout(
    () => giveUp(`${host} was not resolved within ${options.withinMs / 1000} s`),
    options.withinMs,
  );
  const onAbort = () => giveUp("cancelled");
  options.signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([firstFound(host, options), givenUp.promise]);
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener("abort", onAbort);
  }
}

async function firstFound(host: string, options: Waiting): Promise<readonly string[] | NotConnected> {
  const found = lookUp(host);
  if (localNames === undefined || !isLocal(host)) return found;
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal]);
  try {
    // A resolver that asks a DNS server for such a name may be silent for longer than there is time.
    const known = await Promise.race([found, systemClock.pause(localNamesAfterMs, signal)]);
    if (typeof known === "object" && !("kind" in known)) return known;
    const both = [found, localNames(host, { ...options, signal })] as const;
    const sooner = await Promise.race(both);
    if (!("kind" in sooner)) return sooner;
    const [bySystem, byUs] = await Promise.all(both);
    return "kind" in byUs ? bySystem : byUs;
  } finally {
    over.abort();
  }
}

/** Asks the system's resolver, for as long as that takes. */
export async function lookUp(host: string): Promise<readonly string[] | NotConnected> {
  try {
    const entries = await lookup(host, { all: true });
    return [...new Set(entries.map((entry) => entry.address))];
  } catch (error) {
    return { kind: "not-connected", detail: messageOf(error) };
  }
}

/** Connects to the device's port and hangs up again. @returns why that is not possible; undefined when it is. */
export async function reachDevice(
  { host, port }: { readonly host: string; readonly port: number },
  { withinMs, signal }: { readonly withinMs: number; readonly signal: AbortSignal },
): Promise<NotConnected | undefined> {
  const addresses = await resolveHost(host, { withinMs, signal });
  if ("kind" in addresses) return addresses;
  let last: NotConnected = { kind: "not-connected", detail: `${host} has no address` };
  for (const address of addresses) {
    const limits = { connectMs: withinMs, unreadBytesMax: 1_024, lastWordMs: 0, signal };
    const opened = await DeviceConnection.open(address, port, limits);
    if (!(opened instanceof DeviceConnection)) last = opened;
    else {
      opened[Symbol.dispose]();
      return undefined;
    }
  }
  return last;
}

export class DeviceConnection implements DeviceLine, Disposable {
  readonly #socket: PatientSocket;
  readonly #limits: ConnectionLimits;
  #unread: Buffer = Buffer.alloc(0);
  #ending: Ending | undefined;
  #wake: (() => void) | undefined;

  private constructor(limits: ConnectionLimits) {
    this.#limits = limits;
    this.#socket = new PatientSocket({
      // A device that ends its side may still be told something; this side ends when the session says so.
      allowHalfOpen: true,
      onread: {
        buffer: Buffer.alloc(4096),
        callback: (count, buffer) => this.#receive(Buffer.from(buffer.subarray(0, count))),
      },
    });
    this.#socket.once("end", () => this.#end({ kind: "closed" }));
    this.#socket.on("error", (error) => this.#end({ kind: "broken", detail: messageOf(error) }));
    this.#socket.once("close", () => this.#end({ kind: "closed" }));
  }

  /** Connects to one address. Nothing is sent. */
  static async open(
    address: string,
    port: number,
    options: ConnectionLimits & { readonly signal: AbortSignal },
  ): Promise<DeviceConnection | NotConnected> {
    if (options.signal.aborted) return { kind: "not-connected", detail: "cancelled" };
    const connection = new DeviceConnection(options);
    const onAbort = () => connection.cut();
    options.signal.addEventListener("abort", onAbort, { once: true });
    connection.#socket.once("connect", () => connection.#wake?.());
    connection.#socket.setNoDelay(true);
    connection.#socket.connect({ host: address, port });
    const inTime = await connection.#until(() => !connection.#socket.connecting, options.connectMs);
    options.signal.removeEventListener("abort", onAbort);
    const ending = connection.#ending;
    if (inTime && ending === undefined) return connection;
    connection[Symbol.dispose]();
    if (ending === undefined) return { kind: "not-connected", detail: `no answer for ${options.connectMs / 1000} s` };
    return { kind: "not-connected", detail: ending.kind === "broken" ? ending.detail : "cancelled" };
  }

  get ending(): Ending | undefined {
    return this.#ending;
  }

  get nextByte(): number | undefined {
    return this.#unread[0];
  }

  /** The next bytes that were received and not read, without taking them; `undefined` while fewer than `count` are there. */
  peek(count: number): Uint8Array | undefined {
    return this.#unread.length < count ? undefined : this.#unread.subarray(0, count);
  }

  /** Waits for the next byte without taking it. @returns `undefined` when none came. */
  async awaitByte(withinMs: number): Promise<number | undefined> {
    await this.#until(() => this.#unread.length > 0, withinMs);
    return this.nextByte;
  }

  /** Exactly `count` bytes. What arrived before the connection ended is still given (invariant 1). */
  async read(count: number, withinMs: number): Promise<Uint8Array | Ending> {
    const inTime = await this.#until(() => this.#unread.length >= count, withinMs);
    if (this.#unread.length < count) return inTime ? this.#endingNow() : { kind: "silent", limitMs: withinMs };
    return this.take(count);
  }

  /** As many of the received bytes, at once; for a caller that has peeked at them. */
  take(count: number): Uint8Array {
    const bytes = this.#unread.subarray(0, count);
    this.#unread = this.#unread.subarray(count);
    return bytes;
  }

  /**
   * Hands bytes to the kernel and waits until it has taken them all; it may hold megabytes that the device has not seen.
   * After a failed write the device's last word, if there is any, is there as `nextByte`.
   */
  async write(fields: readonly Uint8Array[], withinMs: number): Promise<Ending | undefined> {
    if (this.#ending !== undefined) return this.#ending;
    const written: { done: boolean; error?: Error } = { done: false };
    this.#socket.write(Buffer.concat(fields), (error) => {
      written.done = true;
      if (error instanceof Error) written.error = error;
      this.#wake?.();
    });
    const inTime = await this.#until(() => written.done, withinMs);
    if (!inTime) return { kind: "silent", limitMs: withinMs };
    if (!written.done) return this.#endingNow();
    if (written.error === undefined) return undefined;
    await this.#until(() => this.#unread.length > 0, this.#limits.lastWordMs);
    this.#end({ kind: "broken", detail: messageOf(written.error) });
    return this.#endingNow();
  }

  /** Breaks the connection at once and throws away what the kernel has not sent yet. */
  cut(): void {
    this.#end({ kind: "cut" });
    if (this.#socket.connecting || this.#socket.destroyed) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }

  /** Gives up after the time for a last word. */
  async finish(bytes: Uint8Array): Promise<void> {
    if (this.#ending === undefined) {
      const flushed = { done: false };
      this.#socket.end(bytes, () => {
        flushed.done = true;
        this.#wake?.();
      });
      await this.#until(() => flushed.done, this.#limits.lastWordMs);
    }
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#end({ kind: "closed" });
    this.#socket.destroy();
  }

  #receive(bytes: Buffer): boolean {
    if (this.#ending?.kind === "flooded") return false;
    this.#unread = Buffer.concat([this.#unread, bytes]);
    if (this.#unread.length > this.#limits.unreadBytesMax) {
      this.#end({ kind: "flooded", unreadBytes: this.#unread.length });
      this.#socket.destroy();
    }
    this.#wake?.();
    return true;
  }

  #end(ending: Ending): void {
    this.#ending ??= ending;
    this.#wake?.();
  }

  #endingNow(): Ending {
    if (this.#ending === undefined)
      throw new InvariantError("no-ending", "a wait ended without bytes and without an end");
    return this.#ending;
  }

  /** Waits until `done`, or until the connection has ended. @returns false when the limit came first. */
  async #until(done: () => boolean, withinMs: number): Promise<boolean> {
    if (this.#wake !== undefined) throw new InvariantError("two-waiters", "two waits on one device connection");
    if (done() || this.#ending !== undefined) return true;
    const over = Promise.withResolvers<boolean>();
    const check = () => {
      if (done() || this.#ending !== undefined) over.resolve(true);
    };
    this.#wake = check;
    // A process that was stopped finds its timers due before it has looked at its sockets: they get one turn more.
    const timer = setTimeout(() => setImmediate(() => over.resolve(false)), withinMs);
    const inTime = await over.promise;
    clearTimeout(timer);
    this.#wake = undefined;
    return inTime;
  }
}
