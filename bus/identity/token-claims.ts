/**
 * What a token says, without the library that writes tokens: it would stay in an agent's memory for this. Whether the signature holds is
 * for the server to say.
 */
import { z } from "zod";

const Claims = z.object({
  /** Seconds since 1970; absent or 0: never. */
  exp: z.number().optional(),
  nats: z.unknown(),
});
type Claims = z.infer<typeof Claims>;

/** RFC 7519, section 3. @returns undefined for what is no token */
export function claimsOf(token: string): Claims | undefined {
  const [, claims = ""] = token.split(".");
  try {
    return Claims.parse(JSON.parse(Buffer.from(claims, "base64url").toString("utf8")));
  } catch {
    return undefined;
  }
}

/** When a token ends (ms since 1970); undefined: never, NaN: it is none. */
export function endOf(token: string): number | undefined {
  const claims = claimsOf(token);
  if (claims === undefined) return Number.NaN;
  const { exp = 0 } = claims;
  return exp === 0 ? undefined : exp * 1_000;
}
