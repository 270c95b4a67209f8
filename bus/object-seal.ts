/**
 * How stored pieces are sealed: whoever reads the servers' disks, or may fetch a piece, learns nothing without the content's key.
 *
 * 1. A content's key follows from its digest and the farm's secret, so that whoever stores a content again finds its pieces.
 * 2. No nonce stands for two different bodies: it follows from the body. Two compressors may make two bodies of one piece.
 *
 * AES-256-GCM (NIST SP 800-38D) with a nonce of 96 bits made as a synthetic IV (RFC 8452 gives the reason); HKDF (RFC 5869).
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from "node:crypto";
import type { Digest } from "#protocol/ids.ts";
import type { ObjectStoreName } from "#protocol/objects.ts";

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
const cipher = "aes-256-gcm";

export interface ContentKey {
  readonly cipher: Uint8Array;
  readonly nonce: Uint8Array;
}

/** What a content's keys are made of, 32 bytes. @param farm the farm's secret of 32 bytes */
export function contentSecret(farm: Uint8Array, store: ObjectStoreName, digest: Digest): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", farm, digest, `flashyard content ${store}`, keyBytes));
}

export function contentKey(secret: Uint8Array): ContentKey {
  const keys = new Uint8Array(hkdfSync("sha256", secret, "", "flashyard piece", 2 * keyBytes));
  return { cipher: keys.subarray(0, keyBytes), nonce: keys.subarray(keyBytes) };
}

/** @param place what the piece is and where it belongs: it opens nowhere else. @returns nonce, ciphertext, tag */
export function sealPiece(key: ContentKey, place: string, body: Uint8Array): Uint8Array {
  const nonce = createHmac("sha256", key.nonce)
    .update(place)
    .update("\0")
    .update(body)
    .digest()
    .subarray(0, nonceBytes);
  const sealing = createCipheriv(cipher, key.cipher, nonce).setAAD(Buffer.from(place));
  return Buffer.concat([nonce, sealing.update(body), sealing.final(), sealing.getAuthTag()]);
}

/** Undefined when it was not sealed with this key for this place. */
export function openPiece(key: ContentKey, place: string, sealed: Uint8Array): Uint8Array | undefined {
  if (sealed.length < nonceBytes + tagBytes) return undefined;
  const opening = createDecipheriv(cipher, key.cipher, sealed.subarray(0, nonceBytes), { authTagLength: tagBytes })
    .setAAD(Buffer.from(place))
    .setAuthTag(sealed.subarray(-tagBytes));
  try {
    return Buffer.concat([opening.update(sealed.subarray(nonceBytes, -tagBytes)), opening.final()]);
  } catch {
    return undefined;
  }
}
