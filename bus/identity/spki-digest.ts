/** By what a public key is known. Apart from `authority.ts`, because an agent has no use for what makes certificates. */
import { createHash, type KeyObject } from "node:crypto";

/** SHA-256 of a public key (SPKI, DER), hexadecimal. */
export function spkiDigest(key: KeyObject): string {
  return createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest("hex");
}
