/**
 * ESPHome's over-the-air protocol, versions 1 and 2: its bytes and what they mean. No I/O.
 * Numbers as ESPHome 2026.10 sends and expects them; a device answers each step with one byte, errors from 0x80 on.
 */
import { createHash } from "node:crypto";
import type { Effect } from "#protocol/failure.ts";

/** First bytes of every session; by them a device tells an uploader from a port scan. */
export const magic = Uint8Array.of(0x6c, 0x26, 0xf7, 0x5c, 0x45);

/** What a device answers when a step went well. */
export const answer = {
  ok: 0x00,
  wantsMd5: 0x01,
  wantsSha256: 0x02,
  noFeatures: 0x40,
  authenticated: 0x41,
  prepared: 0x42,
  checksumNoted: 0x43,
  received: 0x44,
  committed: 0x45,
  takesGzip: 0x46,
  blockTaken: 0x47,
  featureFlags: 0x48,
} as const;

/** Answers that mean something of their own to a caller, besides the table below. */
export const refusal = { password: 0x82, encryptionRequired: 0x94 } as const;

const clientFlag = { gzip: 0x01, sha256: 0x02, extended: 0x04, noise: 0x08, deflate: 0x10 } as const;
const plainFeatures = clientFlag.gzip | clientFlag.sha256 | clientFlag.extended | clientFlag.deflate;

/** What this client can do. A device starts a cipher when it is told that the client can, and never without that. */
export function clientFeatures({ hasKey }: { readonly hasKey: boolean }): number {
  return hasKey ? plainFeatures | clientFlag.noise : plainFeatures;
}

/** Flags in the second byte of the extended answer `48 FF`. `deflate` binds: the device then expects nothing else. */
export const deviceFlag = { gzip: 0x01, partitions: 0x02, noise: 0x04, deflate: 0x08 } as const;

/** What is replaced: the application, unless a person asks for more. A device that fails at the others may never start again. */
export type UpdateKind = "application" | "partition-table" | "bootloader";
export const updateByte: Readonly<Record<UpdateKind, number>> = {
  application: 0x00,
  "partition-table": 0x01,
  bootloader: 0x02,
};

const prologueHead = Buffer.from("NoiseOTAInit");

/** What both sides put into the handshake of the cipher: every byte that was said before it, which so cannot be changed on the way. */
export function noisePrologue(version: number, features: number, flags: number): Uint8Array {
  const said = Uint8Array.of(answer.ok, version, features, answer.featureFlags, flags);
  return Buffer.concat([prologueHead, magic, said]);
}

/** The device of version 2 acknowledges each block of this many bytes on the wire, and the rest at the end. */
export const blockBytes = 8192;

/** The device inflates through a ring of 4 KiB; a larger window would reach back beyond it. */
export const deflateWindowBits = 12;

export type Compression = "deflate" | "gzip" | "none";
export type AuthMethod = "md5" | "sha256";

/** Length of a nonce and of an answer to it: a digest in hexadecimal. */
export const nonceLength: Readonly<Record<AuthMethod, number>> = { md5: 32, sha256: 64 };

/** What the device expects on the wire, by its answer to the features: one byte, or the flags of the extended answer. */
export function compressionOf(offer: { readonly gzip: boolean; readonly deflate: boolean }): Compression {
  if (offer.deflate) return "deflate";
  return offer.gzip ? "gzip" : "none";
}

/** Both nonces are hashed as the hexadecimal text that went over the wire, after the password in UTF-8. */
export function passwordProof(method: AuthMethod, password: string, nonce: string, clientNonce: string): string {
  return createHash(method)
    .update(password + nonce + clientNonce)
    .digest("hex");
}

/** An unsigned 32-bit number, most significant byte first. */
export function bigEndian32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** A byte as people write it: `0x8B`. */
export function hexByte(byte: number): string {
  return `0x${byte.toString(16).toUpperCase().padStart(2, "0")}`;
}

export interface DeviceError {
  readonly meaning: string;
  /** What the device is left with. It reports itself, so this is known: nearly always its old build, unharmed. */
  readonly effect: Extract<Effect, "none" | "partial">;
}

const unharmed = (meaning: string): DeviceError => ({ meaning, effect: "none" });
const degraded = (meaning: string): DeviceError => ({ meaning, effect: "partial" });

const deviceErrors: Readonly<Record<number, DeviceError>> = {
  0x80: unharmed("it did not recognise the start of an upload"),
  0x81: unharmed("it could not prepare its flash; the image may be too big"),
  [refusal.password]: unharmed("the password is wrong"),
  0x83: unharmed("it failed to write its flash"),
  0x84: unharmed("it could not finish the update; the image is not one it can start"),
  0x85: unharmed("it must be reset by hand once after it was flashed over USB"),
  0x86: unharmed("it runs with a wrong flash size and must be flashed over USB"),
  0x87: unharmed("the image is built for another flash size"),
  0x88: unharmed("it has not enough space for the image"),
  0x89: unharmed("its update partition is too small and must be resized over USB"),
  0x8a: unharmed("it has no update partition and must be flashed over USB"),
  0x8b: unharmed("what it received does not match the checksum"),
  0x8c: unharmed("it has not enough space for the image"),
  0x8d: unharmed("the image is not signed with the key it trusts"),
  0x8e: unharmed("it does not take this kind of update"),
  0x8f: unharmed("the partition table is not valid"),
  0x90: degraded("writing the partition table failed; do not restart it before that is repaired"),
  0x91: unharmed("the bootloader is not valid"),
  0x92: degraded("writing the bootloader failed; do not restart it before that is repaired"),
  0x93: unharmed("it refuses to go back to an older version"),
  [refusal.encryptionRequired]: unharmed("it only takes encrypted uploads"),
  0xff: unharmed("it reports an error it has no code for"),
};

/** The error a byte stands for; `undefined` for an answer that is none, and for an error newer than this table. */
export function deviceErrorOf(byte: number): DeviceError | undefined {
  return deviceErrors[byte];
}
