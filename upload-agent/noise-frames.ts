/**
 * Frames as ESPHome's update server and native API put them around Noise: `01`, a length of two bytes, most significant first,
 * and as many bytes. No I/O. In the handshake a frame begins with a status: zero, or a refusal with its reason in words.
 */
import { plainText } from "#upload-agent/device-text.ts";

const indicator = 0x01;
export const frameHeadBytes = 3;
export const statusOk = 0x00;

/** What a device that cannot open the first message says; a wire contract (ESPHome 2026.10, noise.cpp, reject_reason_for). */
const macFailure = "Handshake MAC failure";

export function framed(payload: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(indicator, payload.length >> 8, payload.length & 0xff), payload]);
}

/** @returns the number of bytes that follow the head; a sentence when they are not to be waited for. */
export function frameLength(head: Uint8Array, bytesMax: number): number | string {
  const [first = 0, high = 0, low = 0] = head;
  if (first !== indicator) return `it spoke outside of the cipher (0x${first.toString(16).padStart(2, "0")})`;
  const length = high * 256 + low;
  if (length === 0) return "it sent an empty frame";
  return length > bytesMax ? `it announced a frame of ${length} bytes, where ${bytesMax} are the most` : length;
}

/** How a device refused the handshake: because of the key, or for a reason of its own. */
export interface Refusal {
  readonly isWrongKey: boolean;
  /** Untrusted text, cleaned. */
  readonly reason: string;
}

/** Reads a frame of the handshake. @returns the device's message, or its refusal. */
export function handshakeMessage(payload: Uint8Array): Uint8Array | Refusal {
  if (payload[0] === statusOk) return payload.subarray(1);
  const reason = plainText(payload.subarray(1));
  return { isWrongKey: reason === macFailure, reason: reason === "" ? "it gives no reason" : reason };
}
