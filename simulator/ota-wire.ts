/** How a device's answers and the client's fields travel: as they are, or each in a frame of a cipher. */
import type { DeviceSocket } from "#simulator/device-socket.ts";
import { frameOf, readFrame, writeFlawedFrame } from "#simulator/noise-frames.ts";
import type { FrameFlaw } from "#simulator/ota-fault.ts";
import { macBytes, type NoiseCiphers } from "#upload-agent/noise.ts";

export interface OtaWire {
  /** One field of exactly `count` bytes; `undefined` when it does not come. */
  field(count: number): Promise<Buffer | undefined>;
  /** Some of the image, at most `most` bytes. */
  data(most: number): Promise<Buffer | undefined>;
  write(bytes: Uint8Array): Promise<void>;
  /** Answers in a way that no device should. */
  writeFlawed(bytes: Uint8Array, flaw: FrameFlaw): Promise<void>;
}

export class PlainWire implements OtaWire {
  readonly #socket: DeviceSocket;

  constructor(socket: DeviceSocket) {
    this.#socket = socket;
  }

  async field(count: number): Promise<Buffer | undefined> {
    return this.#socket.exactly(count);
  }

  async data(most: number): Promise<Buffer | undefined> {
    return this.#socket.some(Math.min(1_024, most));
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#socket.write(bytes);
  }

  async writeFlawed(bytes: Uint8Array): Promise<void> {
    await this.#socket.write(bytes);
  }
}

/** Data that a device opens in its transfer buffer. */
const dataBytesMax = 1_024;

export class NoiseWire implements OtaWire {
  readonly #socket: DeviceSocket;
  readonly #ciphers: NoiseCiphers;

  constructor(socket: DeviceSocket, ciphers: NoiseCiphers) {
    this.#socket = socket;
    this.#ciphers = ciphers;
  }

  /** A device takes a field only in a frame that holds exactly it. */
  async field(count: number): Promise<Buffer | undefined> {
    return this.#open(await readFrame(this.#socket, count + macBytes, count + macBytes));
  }

  async data(most: number): Promise<Buffer | undefined> {
    return this.#open(await readFrame(this.#socket, 1 + macBytes, Math.min(most, dataBytesMax) + macBytes));
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#socket.write(frameOf(this.#ciphers.sending.seal(bytes)));
  }

  async writeFlawed(bytes: Uint8Array, flaw: FrameFlaw): Promise<void> {
    if (flaw === "unsealed") return this.#socket.write(bytes);
    const sealed = this.#ciphers.sending.seal(flaw === "hollow" ? new Uint8Array(0) : bytes);
    await writeFlawedFrame(this.#socket, sealed, flaw);
  }

  #open(frame: Buffer | undefined): Buffer | undefined {
    const text = frame === undefined ? undefined : this.#ciphers.receiving.open(frame);
    return text === undefined ? undefined : Buffer.from(text);
  }
}
