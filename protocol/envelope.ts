/** Bytes to typed messages and back. */
import type { z } from "zod";
import { WireError } from "#protocol/errors.ts";

export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: WireError };

const text = new TextDecoder("utf-8", { fatal: true });

export function encode(message: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(message));
}

/** Never throws: what cannot be decoded is a value that names the first field at fault. */
export function decode<S extends z.ZodType>(schema: S, bytes: Uint8Array): Decoded<z.output<S>> {
  let json: unknown;
  try {
    json = JSON.parse(text.decode(bytes));
  } catch (cause) {
    return {
      ok: false,
      error: new WireError("not-json", `${bytes.length} bytes that are not JSON in UTF-8`, { cause }),
    };
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return { ok: true, value: parsed.data };
  const issue = parsed.error.issues[0];
  return {
    ok: false,
    error: new WireError("not-a-message", `${issue?.path.join(".") ?? "message"}: ${issue?.message ?? "invalid"}`, {
      cause: parsed.error,
    }),
  };
}
