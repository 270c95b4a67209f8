/**
 * Short texts that only one reader may read: sealed to the reader's X25519 key, for one purpose.
 *
 * 1. Each sealing has a key of its own, from an X25519 key that is made for it and thrown away. So no nonce is used twice with a key,
 *    and who sealed it cannot open it again.
 * 2. What was sealed for one purpose opens for no other: the purpose is in the key.
 *
 * X25519 (RFC 7748), HKDF with SHA-256 (RFC 5869) over the shared secret with both public keys, AES-256-GCM (NIST SP 800-38D); as
 * HPKE's base mode (RFC 9180), without its negotiation. It says nothing of who has sealed.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";

const cipher = "aes-256-gcm";
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/** No secret that a person chooses begins so. */
const prefix = "fys1.";

export function isSealed(text: string): boolean {
  return text.startsWith(prefix);
}

/** @param reader the reader's public key, raw, in base64url. @returns `fys1.` and public key, nonce, ciphertext, tag in base64url */
export function seal(reader: string, text: string, purpose: string): string {
  const once = generateKeyPairSync("x25519");
  const publicKey = createPublicKey({ key: { kty: "OKP", crv: "X25519", x: reader }, format: "jwk" });
  const shared = diffieHellman({ privateKey: once.privateKey, publicKey });
  const nonce = randomBytes(nonceBytes);
  const sealing = createCipheriv(cipher, keyOf(shared, rawOf(once.publicKey), reader, purpose), nonce);
  const parts = [Buffer.from(rawOf(once.publicKey), "base64url"), nonce, sealing.update(text, "utf8"), sealing.final()];
  return prefix + Buffer.concat([...parts, sealing.getAuthTag()]).toString("base64url");
}

/** Undefined when it was not sealed to this reader and for this purpose, or was changed. @param reader X25519 */
export function open(reader: KeyObject, sealed: string, purpose: string): string | undefined {
  if (!isSealed(sealed)) return undefined;
  const bytes = Buffer.from(sealed.slice(prefix.length), "base64url");
  if (bytes.length < keyBytes + nonceBytes + tagBytes) return undefined;
  const once = bytes.subarray(0, keyBytes).toString("base64url");
  const body = bytes.subarray(keyBytes + nonceBytes, -tagBytes);
  try {
    const publicKey = createPublicKey({ key: { kty: "OKP", crv: "X25519", x: once }, format: "jwk" });
    const shared = diffieHellman({ privateKey: reader, publicKey });
    const key = keyOf(shared, once, rawOf(createPublicKey(reader)), purpose);
    const nonce = bytes.subarray(keyBytes, keyBytes + nonceBytes);
    const opening = createDecipheriv(cipher, key, nonce, { authTagLength: tagBytes });
    opening.setAuthTag(bytes.subarray(-tagBytes));
    return Buffer.concat([opening.update(body), opening.final()]).toString("utf8");
  } catch {
    // A tag that does not fit, or a point on the curve that is none.
    return undefined;
  }
}

function keyOf(shared: Buffer, once: string, reader: string, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", shared, "flashyard seal", `${once} ${reader} ${purpose}`, keyBytes));
}

function rawOf(key: KeyObject): string {
  return key.export({ format: "jwk" }).x ?? "";
}
