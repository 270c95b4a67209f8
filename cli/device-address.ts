/** `HOST` or `HOST:PORT` as the user types it; an IPv6 address with a port stands in brackets. Pure. */
import { isIPv6 } from "node:net";
import { UsageError } from "#protocol/errors.ts";
import type { OtaTarget } from "#protocol/job.ts";

export interface DeviceAddress {
  readonly host: string;
  readonly port?: number;
}

/** @throws UsageError `bad-device` */
export function deviceAddressFrom(text: string): DeviceAddress {
  if (isIPv6(text)) return { host: text };
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^\s:/[\]]{1,255}))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const isUsable = host !== undefined && (bracketed === undefined || isIPv6(bracketed));
  const number = port === undefined ? undefined : Number(port);
  if (!isUsable || number === 0 || (number ?? 1) > 65_535) {
    const message = `--device ${JSON.stringify(text)}: a device is named as lamp.local, 192.168.1.20, 192.168.1.20:3232 or [fd00::1]:3232`;
    throw new UsageError("bad-device", message);
  }
  return number === undefined ? { host } : { host, port: number };
}

/** The target with the address that the user has named. */
export function targetAt(target: OtaTarget, device: DeviceAddress | undefined): OtaTarget {
  return device === undefined ? target : { ...target, ...device };
}
