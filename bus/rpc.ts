/** Request and reply with decoding on both sides. */
import type { z } from "zod";
import type { Call, Listening } from "#actor/coordinator-ports.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { type Connection, translate } from "#bus/connection.ts";

/**
 * Asks once. @throws UnavailableError when nobody answers within `timeoutMs`, WireError when the answer cannot be decoded.
 */
export async function request<S extends z.ZodType>(
  connection: Connection,
  subject: string,
  message: unknown,
  answer: S,
  timeoutMs: number,
): Promise<z.output<S>> {
  const reply = await connection.request(subject, encode(message), { timeout: timeoutMs }).catch((error: unknown) => {
    throw translate(error, `request on ${subject}`);
  });
  const decoded = decode(answer, reply.data);
  if (!decoded.ok) throw decoded.error;
  return decoded.value;
}

/** Hands every call on a subject to `handle`, in order of arrival. @returns what ends the service. */
export function serve(connection: Connection, subject: string, handle: (call: Call) => void): Listening {
  const subscription = connection.subscribe(subject, {
    callback: (error, message) => {
      if (error !== null) return;
      handle({ subject: message.subject, bytes: message.data, answer: (body) => void message.respond(encode(body)) });
    },
  });
  return { stop: () => subscription.unsubscribe() };
}

/** Listens without answering. */
export function listen(
  connection: Connection,
  subject: string,
  handle: (bytes: Uint8Array, subject: string) => void,
): Listening {
  const subscription = connection.subscribe(subject, {
    callback: (error, message) => {
      if (error === null) handle(message.data, message.subject);
    },
  });
  return { stop: () => subscription.unsubscribe() };
}
