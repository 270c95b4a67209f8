/** The messages of the native API that a simulated device speaks (aioesphomeapi 2026.10, api.proto). */
import type { DeviceReport } from "#protocol/job.ts";

export const messageType = {
  hello: 1,
  helloAnswer: 2,
  disconnect: 5,
  goodbye: 6,
  ping: 7,
  infoRequest: 9,
  info: 10,
  timeRequest: 36,
} as const;

export function varint(value: number): Buffer {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push(rest >= 128 ? (rest % 128) + 128 : rest);
    if (rest < 128) return Buffer.from(bytes);
  }
}

function text(field: number, value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes]);
}

export function hello(report: DeviceReport): Buffer {
  return Buffer.concat([Buffer.of(0x08, 1, 0x10, 10), text(4, report.name)]);
}

export function deviceInfo(report: DeviceReport): Buffer {
  return Buffer.concat([
    Buffer.of(0x08, 0x00),
    text(2, report.name),
    text(3, report.mac),
    text(4, report.esphomeVersion),
    text(5, report.compilationTime),
    text(6, "simulated"),
    Buffer.of(0x50, 0xd0, 0x0f),
    text(13, "Simulated device"),
  ]);
}
