/**
 * NATS's keys as node's own: an NKey is an Ed25519 key in base32, with a byte or two of kind before it and a CRC-16 behind it
 * (github.com/nats-io/nkeys, README). The library that signs people in is plain JavaScript, which takes milliseconds for a signature.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import type { UserKey } from "#protocol/pairing.ts";

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const keyBytes = 32;
/** What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7). */
const pkcs8Head = Buffer.from("302e020100300506032b657004220420", "hex");

/** @param seed of a user, `SU…`, as `Credentials` has checked it */
export function signingKeyOf(seed: string): KeyObject {
  const raw = fromBase32(seed).subarray(2, 2 + keyBytes);
  return createPrivateKey({ key: Buffer.concat([pkcs8Head, raw]), format: "der", type: "pkcs8" });
}

export function verifyingKeyOf(user: UserKey): KeyObject {
  const x = fromBase32(user)
    .subarray(1, 1 + keyBytes)
    .toString("base64url");
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
}

/** RFC 4648 without padding. */
function fromBase32(text: string): Buffer {
  const bytes: number[] = [];
  let [held, bits] = [0, 0];
  for (const letter of text) {
    held = (held << 5) | alphabet.indexOf(letter);
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push(held >> bits);
    held &= (1 << bits) - 1;
  }
  return Buffer.from(bytes);
}
