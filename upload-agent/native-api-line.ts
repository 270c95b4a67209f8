/**
 * Messages of ESPHome's native API on a connection, in plaintext: `00`, the length, the type, the bytes; length and type are
 * varints (aioesphomeapi 2026.10).
 */
import type { DeviceConnection, Ending } from "#upload-agent/device-connection.ts";
import { encodeVarint, shortVarintBytesMax } from "#upload-agent/protobuf.ts";

/** Why a device cannot be asked or did not answer. */
export type ApiTrouble =
  /** Nothing there, or something there that does not answer as a device does. */
  | { readonly kind: "unreachable"; readonly detail: string }
  /** The device only speaks encrypted, and no key is known. */
  | { readonly kind: "encrypted" }
  /** The device does not speak with who has this key, or speaks with everybody; passes when it gets a build with the key. */
  | { readonly kind: "key-refused"; readonly detail: string; readonly claim?: ApiClaim };

/** Who a device says it is before anybody has proved anything: never enough to take it for the right one. */
export interface ApiClaim {
  readonly name: string;
  /** Twelve hexadecimal digits; empty where firmware from before 2025.4 does not say it. */
  readonly mac: string;
}

export interface ApiMessage {
  readonly type: number;
  readonly body: Uint8Array;
}

/** One conversation. The limits are those of its caller, who says what is left. */
export interface ApiLine {
  send(messages: readonly ApiMessage[]): Promise<ApiTrouble | undefined>;
  receive(): Promise<ApiMessage | ApiTrouble>;
  /** Sends a last message and ends in order. */
  finish(message: ApiMessage): Promise<void>;
}

const plaintext = 0x00;
const encrypted = 0x01;
/** The firmware's own limit: a length is a uint16 there. */
export const messageBytesMax = 65_535;

export class PlainApiLine implements ApiLine {
  readonly #connection: DeviceConnection;
  readonly #leftMs: () => number;

  constructor(connection: DeviceConnection, leftMs: () => number) {
    this.#connection = connection;
    this.#leftMs = leftMs;
  }

  async send(messages: readonly ApiMessage[]): Promise<ApiTrouble | undefined> {
    return sendTo(this.#connection, messages.map(encoded), this.#leftMs());
  }

  async receive(): Promise<ApiMessage | ApiTrouble> {
    const indicator = await this.#connection.read(1, this.#leftMs());
    if (!(indicator instanceof Uint8Array)) return unreachable(indicator);
    if (indicator[0] === encrypted) return { kind: "encrypted" };
    if (indicator[0] !== plaintext) return { kind: "unreachable", detail: "what answers is not ESPHome's native API" };
    const length = await this.#varint();
    if (typeof length !== "number") return length;
    const type = await this.#varint();
    if (typeof type !== "number") return type;
    if (length > messageBytesMax) return { kind: "unreachable", detail: `it announced a message of ${length} bytes` };
    const body = await this.#connection.read(length, this.#leftMs());
    return body instanceof Uint8Array ? { type, body } : unreachable(body);
  }

  async finish(message: ApiMessage): Promise<void> {
    await this.#connection.finish(encoded(message));
  }

  async #varint(): Promise<number | ApiTrouble> {
    let value = 0;
    for (let i = 0; i < shortVarintBytesMax; i++) {
      const read = await this.#connection.read(1, this.#leftMs());
      if (!(read instanceof Uint8Array)) return unreachable(read);
      const byte = read[0] ?? 0;
      value |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) return value;
    }
    return { kind: "unreachable", detail: "it announced a message beyond every limit" };
  }
}

function encoded({ type, body }: ApiMessage): Uint8Array {
  return Buffer.concat([Uint8Array.of(plaintext), encodeVarint(body.length), encodeVarint(type), body]);
}

/** A device that refuses says so before it hangs up: then its word is to be read, although not all was sent. */
export async function sendTo(
  connection: DeviceConnection,
  fields: readonly Uint8Array[],
  withinMs: number,
): Promise<ApiTrouble | undefined> {
  const unsent = await connection.write(fields, withinMs);
  return unsent === undefined || connection.nextByte !== undefined ? undefined : unreachable(unsent);
}

export function unreachable(ending: Ending): ApiTrouble {
  switch (ending.kind) {
    case "closed":
      return { kind: "unreachable", detail: "the device closed the connection" };
    case "broken":
    case "garbled":
      return { kind: "unreachable", detail: ending.detail };
    case "silent":
    case "cut":
      return { kind: "unreachable", detail: "the device did not answer in time" };
    case "flooded":
      return { kind: "unreachable", detail: `it sent ${ending.unreadBytes} bytes that nobody asked for` };
  }
}
