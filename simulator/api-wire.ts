/** How messages of a simulated device's native API travel: with varints in plaintext, or each in a frame of a cipher. */
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import type { DeviceReport } from "#protocol/job.ts";
import { varint } from "#simulator/api-messages.ts";
import type { ByteReader } from "#simulator/byte-reader.ts";
import type { ApiMode } from "#simulator/native-api.ts";
import { frameOf, readFrame, shakeHands } from "#simulator/noise-frames.ts";
import type { NoiseCiphers } from "#upload-agent/noise.ts";

export type Received = { readonly type: number } | undefined;

export interface ApiWire {
  /** The next message of the client; `undefined` when it left or does not speak this. */
  receive(): Promise<Received>;
  message(type: number, body?: Uint8Array): Buffer;
  /** A message that announces more than it may. */
  huge(): Buffer;
  /** The start of a message without an end. */
  endless(): Buffer;
  /** A message without room for what it is. */
  stub(): Buffer;
}

export interface ApiConversation {
  readonly socket: Socket;
  readonly reader: ByteReader;
  readonly mode: ApiMode;
  readonly key: string | undefined;
  readonly report: DeviceReport;
}

/** What a device says to who speaks plaintext and should not, or the other way round. */
const badIndicator = Buffer.from("Bad indicator byte");

/** Begins a conversation as the client's first byte wants it. @returns `undefined` when the device has hung up or will not answer. */
export async function openApiWire(conversation: ApiConversation): Promise<ApiWire | undefined> {
  const { socket, reader, mode, key } = conversation;
  const speaksCipher = key !== undefined || mode === "encrypted";
  const first = (await reader.exactly(1))?.[0];
  if (first === 0x00 && !speaksCipher) return new PlainApiWire(reader);
  if (first === 0x01 && speaksCipher) return openNoise(conversation);
  if (first !== undefined) {
    socket.write(
      speaksCipher ? frameOf(Buffer.concat([Buffer.of(1), badIndicator])) : Buffer.from([0, ...badIndicator]),
    );
  }
  return undefined;
}

class PlainApiWire implements ApiWire {
  readonly #reader: ByteReader;
  #isFirst = true;

  constructor(reader: ByteReader) {
    this.#reader = reader;
  }

  async receive(): Promise<Received> {
    // The indicator of the first message was read to find out what the client speaks.
    if (!this.#isFirst && (await this.#reader.exactly(1))?.[0] !== 0) return undefined;
    this.#isFirst = false;
    const length = await this.#varint();
    const type = await this.#varint();
    if (length === undefined || type === undefined) return undefined;
    return length > 0 && (await this.#reader.exactly(length)) === undefined ? undefined : { type };
  }

  message(type: number, body: Uint8Array = Buffer.alloc(0)): Buffer {
    return Buffer.concat([Buffer.of(0), varint(body.length), varint(type), body]);
  }

  huge(): Buffer {
    return Buffer.of(0, 0xff, 0xff, 0xff, 0x7f, 10);
  }

  endless(): Buffer {
    return Buffer.concat([Buffer.of(0), Buffer.alloc(1000, 0xff)]);
  }

  stub(): Buffer {
    return Buffer.alloc(0);
  }

  async #varint(): Promise<number | undefined> {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = (await this.#reader.exactly(1))?.[0];
      if (byte === undefined) return undefined;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }
}

const hostileReason = Buffer.from(`\u0001no\u001b[2J\r\n way${"!".repeat(200)}`, "latin1");

async function openNoise({ socket, reader, mode, key, report }: ApiConversation): Promise<ApiWire | undefined> {
  const length = (await reader.exactly(2))?.readUInt16BE();
  const said = length === undefined ? undefined : await reader.exactly(length);
  if (length === undefined || said === undefined) return undefined;
  // Firmware from before 2025.4 does not say its address here.
  const address = report.mac === "" ? "" : `${report.mac.replaceAll(":", "").toLowerCase()}\0`;
  const name = `${report.name}\0${address}`;
  socket.write(frameOf(Buffer.concat([Buffer.of(1), Buffer.from(name)])));
  const prologue = Buffer.concat([Buffer.from("NoiseAPIInit"), Buffer.of(length >> 8, length & 0xff), said]);
  const shaken = await shakeHands(reader, key ?? randomBytes(32).toString("base64"), prologue);
  if (shaken.kind === "broken") return undefined;
  const { payload } = shaken;
  if (mode === "rejecting") socket.write(frameOf(hostileReason));
  else if (mode === "forging") socket.write(frameOf(Buffer.concat([Buffer.of(0), randomBytes(48)])));
  else if (mode === "stalling") {
    socket.write(frameOf(payload).subarray(0, 20));
    await reader.over();
  } else {
    socket.write(frameOf(payload));
    if (shaken.kind === "message") return new NoiseApiWire(reader, shaken.ciphers);
  }
  return undefined;
}

class NoiseApiWire implements ApiWire {
  readonly #reader: ByteReader;
  readonly #ciphers: NoiseCiphers;

  constructor(reader: ByteReader, ciphers: NoiseCiphers) {
    this.#reader = reader;
    this.#ciphers = ciphers;
  }

  async receive(): Promise<Received> {
    const frame = await readFrame(this.#reader, 20, 65_535);
    const text = frame === undefined ? undefined : this.#ciphers.receiving.open(frame);
    return text === undefined ? undefined : { type: Buffer.from(text).readUInt16BE(0) };
  }

  message(type: number, body: Uint8Array = Buffer.alloc(0)): Buffer {
    return this.#sealed(type, body.length, body);
  }

  huge(): Buffer {
    return this.#sealed(10, 0xffff, Buffer.alloc(4));
  }

  endless(): Buffer {
    return Buffer.concat([Buffer.of(1, 0xff, 0xff), Buffer.alloc(1000, 0xff)]);
  }

  stub(): Buffer {
    return frameOf(this.#ciphers.sending.seal(Buffer.of(0, 10)));
  }

  #sealed(type: number, announcedBytes: number, body: Uint8Array): Buffer {
    const head = Buffer.alloc(4);
    head.writeUInt16BE(type, 0);
    head.writeUInt16BE(announcedBytes, 2);
    return frameOf(this.#ciphers.sending.seal(Buffer.concat([head, body])));
  }
}
