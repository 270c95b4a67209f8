/** Asks a device over ESPHome's native API which build it runs. The answer is untrusted text, cleaned. */
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { DeviceConnection, resolveHost } from "#upload-agent/device-connection.ts";
import { plainText } from "#upload-agent/device-text.ts";
import { type ApiLine, type ApiTrouble, messageBytesMax, PlainApiLine } from "#upload-agent/native-api-line.ts";
import { decodeNoiseKey } from "#upload-agent/noise.ts";
import { openNoiseApi } from "#upload-agent/noise-api.ts";
import { delimitedFields, encodeNumber, encodeText } from "#upload-agent/protobuf.ts";

export type ApiAnswer =
  | { readonly kind: "answered"; readonly report: DeviceReport }
  | ApiTrouble
  /** The configuration's key cannot be one. */
  | { readonly kind: "key-unusable" }
  /** The target names no API. */
  | { readonly kind: "no-api" };

const messageType = { hello: 1, disconnect: 5, deviceInfoRequest: 9, deviceInfo: 10 } as const;
/** Field numbers of a DeviceInfoResponse. */
const infoField = { name: 2, mac: 3, esphomeVersion: 4, compilationTime: 5 } as const;

/** A device may send pings and a request for the time before it answers; not many. */
const messagesMax = 64;
/** Room for one message that is being read and the start of the next. */
const unreadBytesMax = 2 * messageBytesMax;
/** For the goodbye behind an answer that is there already. */
const lastWordMs = 100;

/** Greeting and question go together: no device asks for a login before it tells what it is. */
const question = [
  {
    type: messageType.hello,
    body: Buffer.concat([encodeText(1, "flashyard"), encodeNumber(2, 1), encodeNumber(3, 10)]),
  },
  { type: messageType.deviceInfoRequest, body: new Uint8Array(0) },
];
const goodbye = { type: messageType.disconnect, body: new Uint8Array(0) };

/**
 * Asks once, within `timeoutMs` from the resolution of the name to the answer. Changes nothing on the device.
 * A target with an encryption key is never asked in plaintext: anyone could give the answer.
 */
export async function askDevice(
  target: OtaTarget,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<ApiAnswer> {
  if (target.api === undefined) return { kind: "no-api" };
  const { port, encryptionKey } = target.api;
  const key = encryptionKey === undefined ? undefined : decodeNoiseKey(encryptionKey);
  if (encryptionKey !== undefined && key === undefined) return { kind: "key-unusable" };
  const until = performance.now() + options.timeoutMs;
  const leftMs = () => Math.max(0, until - performance.now());
  const { signal } = options;
  const addresses = await resolveHost(target.host, { withinMs: leftMs(), signal });
  if ("kind" in addresses) return { kind: "unreachable", detail: addresses.detail };
  let detail = `${target.host} has no address`;
  for (const address of addresses) {
    const limits = { connectMs: leftMs(), unreadBytesMax, lastWordMs, signal };
    const opened = await DeviceConnection.open(address, port, limits);
    if (!(opened instanceof DeviceConnection)) {
      detail = opened.detail;
      continue;
    }
    using connection = opened;
    const onAbort = () => connection.cut();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const line =
        key === undefined ? new PlainApiLine(connection, leftMs) : await openNoiseApi(connection, key, leftMs);
      return "kind" in line ? line : await converse(line);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
  return { kind: "unreachable", detail };
}

async function converse(line: ApiLine): Promise<ApiAnswer> {
  const unsent = await line.send(question);
  if (unsent !== undefined) return unsent;
  for (let count = 0; count < messagesMax; count++) {
    const received = await line.receive();
    if ("kind" in received) return received;
    if (received.type === messageType.disconnect) return { kind: "unreachable", detail: "the device said goodbye" };
    if (received.type !== messageType.deviceInfo) continue;
    const report = reportOf(received.body);
    if (report === undefined) return { kind: "unreachable", detail: "its answer is not readable" };
    await line.finish(goodbye);
    return { kind: "answered", report };
  }
  return { kind: "unreachable", detail: `it sent ${messagesMax} messages and none says what it is` };
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
