/**
 * Reads what devices say over multicast DNS: records of `_esphomelib._tcp`, the service of ESPHome's native API
 * (`mdns_component.cpp` of ESPHome 2026.10). All of it is untrusted: what is too long, too much or not of its kind is passed over.
 */
import { isIP } from "node:net";
import { z } from "zod";
import { sightingAddressesMax } from "#protocol/sighting.ts";

/** The service that every ESPHome device with an API announces. */
export const esphomeService = "_esphomelib._tcp.local";

/** What one packet says of one device. */
export interface DeviceWord {
  /** As ESPHome names it, in lower case. */
  readonly name: string;
  /** It says goodbye, as it may do before it restarts. */
  readonly isLeaving: boolean;
  /** Where its API is. */
  readonly service?: { readonly host: string; readonly port: number };
  readonly texts?: DeviceTexts;
}

/** What a device says of itself, all of it at once. */
export interface DeviceTexts {
  readonly mac?: string;
  readonly version?: string;
  readonly configHash?: string;
  readonly network?: string;
}

/** Everything that one packet says. */
export interface Heard {
  readonly devices: ReadonlyMap<string, DeviceWord>;
  /** Addresses by host, in lower case. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
}

/** A packet of 9,000 bytes, more than which mDNS never sends, has fewer. */
const recordsMax = 500;
const textsMax = 64;

const Record = z.object({ name: z.string(), type: z.string(), ttl: z.number(), data: z.unknown() });
const Packet = z.object({ answers: z.array(z.unknown()), additionals: z.array(z.unknown()) });
const Service = z.object({ target: z.string(), port: z.number().int().min(1).max(65_535) });
const Texts = z.union([z.array(z.instanceof(Uint8Array)), z.instanceof(Uint8Array).transform((text) => [text])]);

/** ESPHome's names, and with a suffix of the MAC address; older versions allow `_`. */
const deviceName = /^[a-z0-9_-]{1,63}$/;
const hostName = /^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){1,5}$/;
const instance = /^([^.]{1,63})\._esphomelib\._tcp\.local$/;

/** Reads a decoded packet. Never throws, whatever it is. */
export function readPacket(packet: unknown): Heard {
  const devices = new Map<string, DeviceWord>();
  const addresses = new Map<string, readonly string[]>();
  const parsed = Packet.safeParse(packet);
  const records = parsed.success ? [...parsed.data.answers, ...parsed.data.additionals].slice(0, recordsMax) : [];
  for (const one of records) {
    const record = Record.safeParse(one);
    if (!record.success) continue;
    const { type, data, ttl } = record.data;
    const owner = record.data.name.toLowerCase();
    if (type === "A" || type === "AAAA") readAddress(addresses, owner, data, ttl);
    const name = deviceOf(type === "PTR" && owner === esphomeService ? data : owner);
    if (name === undefined) continue;
    const before = devices.get(name) ?? { name, isLeaving: false };
    devices.set(name, { ...before, ...said(type, data), isLeaving: before.isLeaving || ttl === 0 });
  }
  return { devices, addresses };
}

function deviceOf(text: unknown): string | undefined {
  const name = typeof text === "string" ? instance.exec(text.toLowerCase())?.[1] : undefined;
  return name !== undefined && deviceName.test(name) ? name : undefined;
}

/** A link-local address of IPv6 is no use without its network, and one record of a host that goes says nothing. */
function readAddress(addresses: Map<string, readonly string[]>, host: string, data: unknown, ttl: number): void {
  if (typeof data !== "string" || isIP(data) === 0 || /^fe[89ab]/i.test(data) || ttl === 0 || !hostName.test(host))
    return;
  const before = addresses.get(host) ?? [];
  if (before.length < sightingAddressesMax && !before.includes(data)) addresses.set(host, [...before, data]);
}

function said(type: string, data: unknown): Pick<DeviceWord, "service" | "texts"> {
  if (type === "TXT") return { texts: textsOf(data) };
  const service = type === "SRV" ? Service.safeParse(data).data : undefined;
  const host = service?.target.toLowerCase() ?? "";
  return service !== undefined && hostName.test(host) ? { service: { host, port: service.port } } : {};
}

function textsOf(data: unknown): DeviceTexts {
  const texts = Texts.safeParse(data);
  const values = new Map<string, string>();
  for (const bytes of texts.success ? texts.data.slice(0, textsMax) : []) {
    const text = Buffer.from(bytes).toString("latin1");
    const end = text.indexOf("=");
    const key = text.slice(0, end).toLowerCase();
    // RFC 6763, section 6.4: the first one counts.
    if (end > 0 && !values.has(key)) values.set(key, text.slice(end + 1));
  }
  const mac = values.get("mac");
  const version = fitting(values.get("version"), /^[\w.+-]{1,40}$/);
  const configHash = fitting(values.get("config_hash"), /^[0-9a-f]{8}$/);
  const network = fitting(values.get("network"), /^[a-z0-9_-]{1,20}$/);
  return {
    ...(mac !== undefined && /^[0-9a-f]{12}$/i.test(mac) ? { mac: colons(mac) } : {}),
    ...(version === undefined ? {} : { version }),
    ...(configHash === undefined ? {} : { configHash }),
    ...(network === undefined ? {} : { network }),
  };
}

function fitting(text: string | undefined, form: RegExp): string | undefined {
  return text !== undefined && form.test(text) ? text : undefined;
}

/** `a0b1c2d3e4f5` as `A0:B1:C2:D3:E4:F5`. */
function colons(digits: string): string {
  return (digits.toUpperCase().match(/../g) ?? []).join(":");
}
