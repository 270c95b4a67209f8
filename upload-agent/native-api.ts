/**
 * Asks a device over ESPHome's native API, in plaintext, which build it runs. The answer is untrusted text.
 *
 * Each message is `00`, its length, its type, its bytes; length and type are varints (aioesphomeapi 2026.10).
 */
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { DeviceConnection, type Ending, resolveHost } from "#upload-agent/device-connection.ts";
import {
  delimitedFields,
  encodeNumber,
  encodeText,
  encodeVarint,
  shortVarintBytesMax,
} from "#upload-agent/protobuf.ts";

export type ApiAnswer =
  | { readonly kind: "answered"; readonly report: DeviceReport }
  /** Nothing there, or something there that does not answer as a device does. */
  | { readonly kind: "unreachable"; readonly detail: string }
  /** The device only speaks encrypted, or its configuration says that it should. */
  | { readonly kind: "encrypted" }
  /** The target names no API. */
  | { readonly kind: "no-api" };

const messageType = { hello: 1, disconnect: 5, deviceInfoRequest: 9, deviceInfo: 10 } as const;
/** Field numbers of a DeviceInfoResponse. */
const infoField = { name: 2, mac: 3, esphomeVersion: 4, compilationTime: 5 } as const;

/** The firmware's own limit: a length is a uint16 there. */
const messageBytesMax = 65_535;
/** A device may send pings and a request for the time before it answers; not many. */
const messagesMax = 64;
/** Room for one message that is being read and the start of the next. */
const unreadBytesMax = 2 * messageBytesMax;
/** For the goodbye behind an answer that is there already. */
const lastWordMs = 100;
/** ESPHome cuts names at 31 and versions at 20 characters. */
const textLengthMax = 120;

const plaintext = 0x00;
const encrypted = 0x01;

function message(type: number, ...fields: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(fields);
  return Buffer.concat([Uint8Array.of(plaintext), encodeVarint(body.length), encodeVarint(type), body]);
}

/** Greeting and question go together: no device asks for a login before it tells what it is. */
const question = Buffer.concat([
  message(messageType.hello, encodeText(1, "flashyard"), encodeNumber(2, 1), encodeNumber(3, 10)),
  message(messageType.deviceInfoRequest),
]);

/**
 * Asks once, within `timeoutMs` from the resolution of the name to the answer. Changes nothing on the device.
 * A target with an encryption key is not asked in plaintext: anyone could give the answer.
 */
export async function askDevice(
  target: OtaTarget,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<ApiAnswer> {
  if (target.api === undefined) return { kind: "no-api" };
  if (target.api.encryptionKey !== undefined) return { kind: "encrypted" };
  const until = performance.now() + options.timeoutMs;
  const leftMs = () => Math.max(0, until - performance.now());
  const { signal } = options;
  const addresses = await resolveHost(target.host, { withinMs: leftMs(), signal });
  if ("kind" in addresses) return { kind: "unreachable", detail: addresses.detail };
  let detail = `${target.host} has no address`;
  for (const address of addresses) {
    const limits = { connectMs: leftMs(), unreadBytesMax, lastWordMs, signal };
    const opened = await DeviceConnection.open(address, target.api.port, limits);
    if (!(opened instanceof DeviceConnection)) {
      detail = opened.detail;
      continue;
    }
    using connection = opened;
    const onAbort = () => connection.cut();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await converse(connection, leftMs);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
  return { kind: "unreachable", detail };
}

async function converse(connection: DeviceConnection, leftMs: () => number): Promise<ApiAnswer> {
  const unsent = await connection.write(question, leftMs());
  if (unsent !== undefined && connection.nextByte === undefined) return unreachable(unsent);
  for (let count = 0; count < messagesMax; count++) {
    const received = await readMessage(connection, leftMs);
    if ("kind" in received) return received;
    if (received.type === messageType.disconnect) return { kind: "unreachable", detail: "the device said goodbye" };
    if (received.type !== messageType.deviceInfo) continue;
    const report = reportOf(received.body);
    if (report === undefined) return { kind: "unreachable", detail: "its answer is not readable" };
    await connection.finish(message(messageType.disconnect));
    return { kind: "answered", report };
  }
  return { kind: "unreachable", detail: `it sent ${messagesMax} messages and none says what it is` };
}

async function readMessage(
  connection: DeviceConnection,
  leftMs: () => number,
): Promise<{ readonly type: number; readonly body: Uint8Array } | ApiAnswer> {
  const indicator = await connection.read(1, leftMs());
  if (!(indicator instanceof Uint8Array)) return unreachable(indicator);
  if (indicator[0] === encrypted) return { kind: "encrypted" };
  if (indicator[0] !== plaintext) return { kind: "unreachable", detail: "what answers is not ESPHome's native API" };
  const length = await readVarint(connection, leftMs);
  if (typeof length !== "number") return length;
  const type = await readVarint(connection, leftMs);
  if (typeof type !== "number") return type;
  if (length > messageBytesMax) return { kind: "unreachable", detail: `it announced a message of ${length} bytes` };
  const body = await connection.read(length, leftMs());
  return body instanceof Uint8Array ? { type, body } : unreachable(body);
}

async function readVarint(connection: DeviceConnection, leftMs: () => number): Promise<number | ApiAnswer> {
  let value = 0;
  for (let i = 0; i < shortVarintBytesMax; i++) {
    const read = await connection.read(1, leftMs());
    if (!(read instanceof Uint8Array)) return unreachable(read);
    const byte = read[0] ?? 0;
    value |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) return value;
  }
  return { kind: "unreachable", detail: "it announced a message beyond every limit" };
}

function reportOf(body: Uint8Array): DeviceReport | undefined {
  const fields = delimitedFields(body);
  if (fields === undefined) return undefined;
  const text = (field: number) => plainText(fields.get(field) ?? new Uint8Array(0));
  const report = {
    name: text(infoField.name),
    mac: text(infoField.mac),
    compilationTime: text(infoField.compilationTime),
    esphomeVersion: text(infoField.esphomeVersion),
  };
  return report.name === "" ? undefined : report;
}

/** Text of a device without what could rearrange a terminal or a page, at most 120 characters. */
function plainText(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 4 * textLengthMax)).toString("utf8");
  return Array.from(text.replaceAll(/[\p{C}\u2028\u2029]/gu, ""))
    .slice(0, textLengthMax)
    .join("");
}

function unreachable(ending: Ending): ApiAnswer {
  switch (ending.kind) {
    case "closed":
      return { kind: "unreachable", detail: "the device closed the connection" };
    case "broken":
      return { kind: "unreachable", detail: ending.detail };
    case "silent":
    case "cut":
      return { kind: "unreachable", detail: "the device did not answer in time" };
    case "flooded":
      return { kind: "unreachable", detail: `it sent ${ending.unreadBytes} bytes that nobody asked for` };
  }
}
