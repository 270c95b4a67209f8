/** The code of an invitation: sixteen characters of Crockford's base 32, 80 random bits. It is told to one machine and stored nowhere. */
import { createHash, randomBytes } from "node:crypto";

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/** 256 is a multiple of 32: each character is as likely as any other. */
export function newJoinCode(): string {
  return Array.from(randomBytes(16), (byte) => alphabet[byte % 32]).join("");
}

/** What the farm knows of a code. Nobody finds 80 random bits by trying, so one SHA-256 is enough. */
export function hashOfCode(code: string): string {
  return createHash("sha256").update(code).digest("hex");
}

/** Of an invitation. */
export function newInvitationId(): string {
  return randomBytes(8).toString("hex");
}
