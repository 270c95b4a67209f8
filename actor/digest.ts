/** SHA-256 of bytes, as the farm names bundles and images. */
import { createHash } from "node:crypto";
import { Digest } from "#protocol/ids.ts";

export function digestOf(bytes: Uint8Array): Digest {
  return Digest.parse(createHash("sha256").update(bytes).digest("hex"));
}
