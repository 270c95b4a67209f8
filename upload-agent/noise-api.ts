/**
 * Messages of ESPHome's native API through a cipher: after two greetings in plaintext and the handshake each is a frame of its
 * own, with type and length as two bytes each before the bytes (ESPHome 2026.10, api_frame_helper_noise.cpp).
 */
import type { DeviceConnection } from "#upload-agent/device-connection.ts";
import { plainText } from "#upload-agent/device-text.ts";
import {
  type ApiClaim,
  type ApiLine,
  type ApiMessage,
  type ApiTrouble,
  messageBytesMax,
  sendTo,
  unreachable,
} from "#upload-agent/native-api-line.ts";
import { type NoiseCiphers, NoiseHandshake } from "#upload-agent/noise.ts";
import { framed, handshakeMessage, statusOk } from "#upload-agent/noise-frames.ts";
import { forged, readFrame } from "#upload-agent/noise-line.ts";

/** The client's greeting is an empty frame, and its length of two bytes is what the prologue ends with. */
const greeting = Uint8Array.of(0x01, 0x00, 0x00);
const prologue = Buffer.from("NoiseAPIInit\0\0", "latin1");
/** The only choice there is: the device's name and address follow, each with a zero at its end, and in plaintext. */
const chosenNoise = 0x01;
/** A device in plaintext answers the greeting with its own indicator. */
const plaintext = 0x00;
const handshakeFrameBytesMax = 256;
const headBytes = 4;

/** Agrees with the device on a cipher. @param key 32 bytes */
export async function openNoiseApi(
  connection: DeviceConnection,
  key: Uint8Array,
  leftMs: () => number,
): Promise<ApiLine | ApiTrouble> {
  const handshake = new NoiseHandshake({ role: "initiator", key, prologue });
  const opening = framed(Buffer.concat([Uint8Array.of(statusOk), handshake.write()]));
  const unsent = await sendTo(connection, [greeting, opening], leftMs());
  if (unsent !== undefined) return unsent;
  const hello = await read(connection, handshakeFrameBytesMax, leftMs);
  if (!(hello instanceof Uint8Array)) return hello;
  const claim = claimIn(hello);
  if (hello[0] !== chosenNoise) return { kind: "unreachable", detail: "it chose a cipher that nobody knows" };
  const answer = await read(connection, handshakeFrameBytesMax, leftMs);
  if (!(answer instanceof Uint8Array)) return answer;
  const message = handshakeMessage(answer);
  if (!(message instanceof Uint8Array)) {
    const detail = message.isWrongKey
      ? "the API's encryption key is wrong"
      : `it refused the cipher: ${message.reason}`;
    return { kind: "key-refused", detail, ...claim };
  }
  if (handshake.read(message) === undefined) {
    return { kind: "key-refused", detail: "what answers does not know the API's encryption key", ...claim };
  }
  return new NoiseApiLine(connection, handshake.split(), leftMs);
}

function claimIn(hello: Uint8Array): { readonly claim?: ApiClaim } {
  const [name, mac, ...rest] = Buffer.from(hello.subarray(1)).toString("latin1").split("\0");
  if (name === undefined || name === "" || mac === undefined) return {};
  const clean = (text: string) => plainText(Buffer.from(text, "latin1"));
  return { claim: { name: clean(name), mac: rest.length === 0 ? "" : clean(mac) } };
}

/** One frame; a device that speaks plaintext is told apart from one that is not there. */
async function read(
  connection: DeviceConnection,
  bytesMax: number,
  leftMs: () => number,
): Promise<Uint8Array | ApiTrouble> {
  const first = await connection.awaitByte(leftMs());
  if (first === plaintext) return { kind: "key-refused", detail: "the device does not speak encrypted" };
  const frame = await readFrame(connection, bytesMax, leftMs());
  return frame instanceof Uint8Array ? frame : unreachable(frame);
}

class NoiseApiLine implements ApiLine {
  readonly #connection: DeviceConnection;
  readonly #ciphers: NoiseCiphers;
  readonly #leftMs: () => number;

  constructor(connection: DeviceConnection, ciphers: NoiseCiphers, leftMs: () => number) {
    this.#connection = connection;
    this.#ciphers = ciphers;
    this.#leftMs = leftMs;
  }

  async send(messages: readonly ApiMessage[]): Promise<ApiTrouble | undefined> {
    const frames = messages.map((message) => this.#sealed(message));
    return sendTo(this.#connection, frames, this.#leftMs());
  }

  async receive(): Promise<ApiMessage | ApiTrouble> {
    const frame = await readFrame(this.#connection, messageBytesMax, this.#leftMs());
    if (!(frame instanceof Uint8Array)) return unreachable(frame);
    const text = this.#ciphers.receiving.open(frame);
    if (text === undefined) return unreachable(forged);
    if (text.length < headBytes) return { kind: "unreachable", detail: `it sent a message of ${text.length} bytes` };
    const head = new DataView(text.buffer, text.byteOffset, headBytes);
    const body = text.subarray(headBytes, headBytes + head.getUint16(2));
    if (body.length < head.getUint16(2)) return { kind: "unreachable", detail: "its message is shorter than it says" };
    return { type: head.getUint16(0), body };
  }

  async finish(message: ApiMessage): Promise<void> {
    await this.#connection.finish(this.#sealed(message));
  }

  #sealed({ type, body }: ApiMessage): Uint8Array {
    const head = Uint8Array.of(type >> 8, type & 0xff, body.length >> 8, body.length & 0xff);
    return framed(this.#ciphers.sending.seal(Buffer.concat([head, body])));
  }
}
