/**
 * A conversation with a device through a cipher: what is read was sealed by somebody who knows the key, in this order, or it is
 * not read at all.
 */
import type { DeviceConnection, DeviceLine, Ending } from "#upload-agent/device-connection.ts";
import { macBytes, type NoiseCiphers } from "#upload-agent/noise.ts";
import { framed, frameHeadBytes, frameLength } from "#upload-agent/noise-frames.ts";

/** One frame of at most `bytesMax` bytes, whole and within the limit. */
export async function readFrame(
  connection: DeviceConnection,
  bytesMax: number,
  withinMs: number,
): Promise<Uint8Array | Ending> {
  const until = performance.now() + withinMs;
  const read = async (count: number) => {
    const bytes = await connection.read(count, Math.max(0, until - performance.now()));
    return bytes instanceof Uint8Array || bytes.kind !== "silent" ? bytes : { ...bytes, limitMs: withinMs };
  };
  // The first byte alone: what speaks outside of the cipher may have nothing to say after it.
  const indicator = await read(1);
  if (!(indicator instanceof Uint8Array)) return indicator;
  const misfit = misfitOf(indicator, bytesMax);
  if (misfit !== undefined) return misfit;
  const length = await read(frameHeadBytes - 1);
  if (!(length instanceof Uint8Array)) return length;
  const count = frameLength(Buffer.concat([indicator, length]), bytesMax);
  return typeof count === "number" ? read(count) : { kind: "garbled", detail: count };
}

/** A frame of which all has arrived, taken at once; `undefined` while that is not so. */
function takeArrivedFrame(connection: DeviceConnection, bytesMax: number): Uint8Array | Ending | undefined {
  const indicator = connection.peek(1);
  const misfit = indicator === undefined ? undefined : misfitOf(indicator, bytesMax);
  const head = connection.peek(frameHeadBytes);
  if (misfit !== undefined || head === undefined) return misfit;
  const count = frameLength(head, bytesMax);
  if (typeof count !== "number") return { kind: "garbled", detail: count };
  if (connection.peek(frameHeadBytes + count) === undefined) return undefined;
  return connection.take(frameHeadBytes + count).subarray(frameHeadBytes);
}

function misfitOf(indicator: Uint8Array, bytesMax: number): Ending | undefined {
  const fits = frameLength(Uint8Array.of(indicator[0] ?? 0, 0, 1), bytesMax);
  return typeof fits === "number" ? undefined : { kind: "garbled", detail: fits };
}

/** What is left of a conversation when a frame cannot be opened: anybody may have sent it. */
export const forged: Ending = { kind: "broken", detail: "a frame was damaged or forged on its way from the device" };

export interface NoiseLineLimits {
  /** Longest field that is sent in one frame; a longer one is cut into several. */
  readonly sentBytesMax: number;
  /** Longest text of the device in one frame. */
  readonly takenBytesMax: number;
}

export class NoiseLine implements DeviceLine {
  readonly #connection: DeviceConnection;
  readonly #ciphers: NoiseCiphers;
  readonly #limits: NoiseLineLimits;
  #unread: Uint8Array = new Uint8Array(0);
  /** Set for good once a frame could not be read: the ciphers of both sides no longer agree. */
  #fault: Ending | undefined;

  constructor(connection: DeviceConnection, ciphers: NoiseCiphers, limits: NoiseLineLimits) {
    this.#connection = connection;
    this.#ciphers = ciphers;
    this.#limits = limits;
  }

  get ending(): Ending | undefined {
    return this.#fault ?? this.#connection.ending;
  }

  get nextByte(): number | undefined {
    this.#openArrived();
    return this.#unread[0];
  }

  async read(count: number, withinMs: number): Promise<Uint8Array | Ending> {
    const until = performance.now() + withinMs;
    while (this.#unread.length < count) {
      if (this.#fault !== undefined) return this.#fault;
      const frame = await readFrame(this.#connection, this.#frameBytesMax, Math.max(0, until - performance.now()));
      if (frame instanceof Uint8Array) this.#open(frame);
      else if (frame.kind === "silent") return { ...frame, limitMs: withinMs };
      else this.#fault = frame;
    }
    const bytes = this.#unread.subarray(0, count);
    this.#unread = this.#unread.subarray(count);
    return bytes;
  }

  async write(fields: readonly Uint8Array[], withinMs: number): Promise<Ending | undefined> {
    if (this.#fault !== undefined) return this.#fault;
    return this.#connection.write(
      fields.flatMap((field) => [...this.#seal(field)]),
      withinMs,
    );
  }

  async finish(bytes: Uint8Array): Promise<void> {
    await this.#connection.finish(Buffer.concat([...this.#seal(bytes)]));
  }

  get #frameBytesMax(): number {
    return this.#limits.takenBytesMax + macBytes;
  }

  *#seal(field: Uint8Array): Generator<Uint8Array> {
    const { sentBytesMax } = this.#limits;
    for (let at = 0; at < field.length; at += sentBytesMax) {
      yield framed(this.#ciphers.sending.seal(field.subarray(at, at + sentBytesMax)));
    }
  }

  #openArrived(): void {
    while (this.#unread.length === 0 && this.#fault === undefined) {
      const frame = takeArrivedFrame(this.#connection, this.#frameBytesMax);
      if (frame === undefined) return;
      if (frame instanceof Uint8Array) this.#open(frame);
      else this.#fault = frame;
    }
  }

  #open(frame: Uint8Array): void {
    const text = this.#ciphers.receiving.open(frame);
    if (text === undefined) this.#fault = forged;
    // A frame without text would keep a reader waiting although the device speaks.
    else if (text.length === 0) this.#fault = { kind: "garbled", detail: "it sent a frame without content" };
    else this.#unread = Buffer.concat([this.#unread, text]);
  }
}
