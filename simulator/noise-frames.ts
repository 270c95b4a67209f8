/** A device's frames around a cipher, right and wrong ones, and its side of the handshake; for updates and the native API alike. */
import type { DeviceSocket } from "#simulator/device-socket.ts";
import type { FrameFlaw } from "#simulator/ota-fault.ts";
import { decodeNoiseKey, type NoiseCiphers, NoiseHandshake } from "#upload-agent/noise.ts";

const handshakeFrameBytesMax = 129;

export function frameOf(payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(0x01, payload.length >> 8, payload.length & 0xff), payload]);
}

/** The payload of a frame; `undefined` for one that a device does not take. */
export async function readFrame(
  socket: Pick<DeviceSocket, "exactly">,
  bytesMin: number,
  bytesMax: number,
): Promise<Buffer | undefined> {
  const head = await socket.exactly(3);
  if (head === undefined || head[0] !== 0x01) return undefined;
  const length = head.readUInt16BE(1);
  if (length < bytesMin || length > bytesMax) return undefined;
  return socket.exactly(length);
}

export async function writeFlawedFrame(socket: DeviceSocket, payload: Uint8Array, flaw: FrameFlaw): Promise<void> {
  const frame = flawedFrame(payload, flaw);
  await (flaw === "crawling" ? socket.crawl(frame) : socket.write(frame));
}

function flawedFrame(payload: Uint8Array, flaw: FrameFlaw): Buffer {
  const frame = frameOf(payload);
  switch (flaw) {
    case "forged":
      frame[frame.length - 1] = (frame.at(-1) ?? 0) ^ 1;
      return frame;
    case "truncated":
    case "stalled":
      return frame.subarray(0, Math.ceil(frame.length / 2));
    case "oversize":
      return Buffer.concat([Buffer.of(0x01, 0xff, 0xff), payload]);
    case "empty":
      return Buffer.of(0x01, 0, 0);
    case "unsealed":
      return Buffer.from(payload);
    case "hollow":
    case "crawling":
      return frame;
  }
}

/** What a device says to a handshake that its key does not open. */
const macFailure = Buffer.from("\u0001Handshake MAC failure", "latin1");

export type Shaken =
  /** The device's message, to be sent in a frame, and the ciphers after it. */
  | { readonly kind: "message"; readonly payload: Buffer; readonly ciphers: NoiseCiphers }
  /** Its refusal, to be sent in a frame before it hangs up. */
  | { readonly kind: "refusal"; readonly payload: Buffer }
  | { readonly kind: "broken" };

/** The device's side of the handshake, up to its message. @param key in base64 */
export async function shakeHands(
  socket: Pick<DeviceSocket, "exactly">,
  key: string,
  prologue: Uint8Array,
): Promise<Shaken> {
  const opening = await readFrame(socket, 1, handshakeFrameBytesMax);
  if (opening === undefined || opening[0] !== 0x00) return { kind: "broken" };
  const bytes = decodeNoiseKey(key) ?? Buffer.alloc(32);
  const handshake = new NoiseHandshake({ role: "responder", key: bytes, prologue });
  if (handshake.read(opening.subarray(1)) === undefined) return { kind: "refusal", payload: macFailure };
  const payload = Buffer.concat([Buffer.of(0x00), handshake.write()]);
  return { kind: "message", payload, ciphers: handshake.split() };
}
