/** The one line that is pasted on a machine that is to join: where the farm is, by what it is known, and the code. */
import { z } from "zod";

export const JoinLine = z.object({
  /** As FLASHYARD_NATS_URL. */
  servers: z.string().min(1).max(1000),
  /** SHA-256 of the authority's public key (SPKI, DER), hexadecimal. */
  pin: z.string().regex(/^[0-9a-f]{64}$/),
  code: z.string().min(1).max(64),
});
export type JoinLine = z.infer<typeof JoinLine>;

const prefix = "fyj1.";

export function joinLineOf(line: JoinLine): string {
  const bytes = new TextEncoder().encode(JSON.stringify(line));
  const text = btoa(String.fromCharCode(...bytes));
  return prefix + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** @returns undefined for text that is none, also for one of which a part is missing */
export function readJoinLine(text: string): JoinLine | undefined {
  const [, encoded] = /^fyj1\.([A-Za-z0-9_-]{1,4000})$/.exec(text.trim()) ?? [];
  if (encoded === undefined) return undefined;
  try {
    const bytes = Uint8Array.from(atob(encoded.replaceAll("-", "+").replaceAll("_", "/")), (byte) =>
      byte.charCodeAt(0),
    );
    return JoinLine.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data;
  } catch {
    return undefined;
  }
}
