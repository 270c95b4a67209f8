/**
 * Signs of life of devices, as upload agents see them, and the list of devices that jobs wait for. Both are hints that are repeated:
 * losing one costs time and nothing else. What a device says of itself here is untrusted; nothing is flashed on its word.
 */
import { z } from "zod";
import { AgentId, BootId } from "#protocol/ids.ts";

/** A message of so many has at most 60 kB. */
export const sightingsMax = 100;
export const awaitedMax = 200;
/** A list of so many parts names 10,000 devices. */
export const awaitedPartsMax = 50;
/** Both lists are repeated this often, for whoever has lost one or has just come. */
export const repeatMs = 10_000;
export const sightingAddressesMax = 8;

const Port = z.number().int().min(1).max(65_535);
const Host = z.string().min(1).max(255);
const Mac = z.string().regex(/^([0-9A-F]{2}:){5}[0-9A-F]{2}$/);

/** A device as it was seen once, by one agent. */
export const Sighting = z.object({
  /** `esphome: name:` as the device says it; where it could not be asked, as the job calls it that waits for it. */
  name: z.string().min(1).max(120),
  /** `AA:BB:CC:DD:EE:FF` */
  mac: Mac.optional(),
  /** Its name in the network or its address; without a port. */
  host: Host,
  /** Where the agent reaches it, as far as it knows. */
  addresses: z.array(z.string().min(2).max(45)).max(sightingAddressesMax),
  /** Of its API, or the port that answered. */
  port: Port.optional(),
  /** ESPHome's. */
  version: z.string().max(40).optional(),
  /** Of the configuration that it runs: eight hexadecimal digits. */
  configHash: z.string().max(16).optional(),
  /** `wifi`, `ethernet` or `thread`. For a Thread device its border router answers, also while the device sleeps. */
  network: z.string().max(20).optional(),
  /** `mdns`: it announced itself; `api`: it took a connection, and said a name of its own only if there is a `mac`. */
  via: z.enum(["mdns", "api"]),
  /** By the agent's clock, ms since 1970. */
  at: z.number(),
});
export type Sighting = z.infer<typeof Sighting>;

/**
 * The names under which a job may wait for a device: its own, and where `name_add_mac_suffix` has added the end of its address to that of
 * the configuration, that one too.
 */
export function namesOf({ name, mac }: Pick<Sighting, "name" | "mac">): readonly string[] {
  const suffix = mac === undefined ? undefined : `-${mac.replaceAll(":", "").slice(-6).toLowerCase()}`;
  return suffix !== undefined && name.endsWith(suffix) ? [name, name.slice(0, -suffix.length)] : [name];
}

/** What an upload agent has seen. */
export const Sightings = z.object({
  v: z.literal(1),
  agent: AgentId,
  boot: BootId,
  seen: z.array(Sighting).max(sightingsMax),
});
export type Sightings = z.infer<typeof Sightings>;

/** A device that a job waits for. Without a port it is awaited by its name only. */
export const AwaitedDevice = z.object({
  /** `esphome: name:` that it has now, so the former one in a rename. */
  name: z.string().min(1).max(120),
  host: Host,
  apiPort: Port.optional(),
  otaPort: Port.optional(),
  mac: Mac.optional(),
});
export type AwaitedDevice = z.infer<typeof AwaitedDevice>;

/**
 * A part of the list of all devices that jobs wait for, for all upload agents. A list whose parts have all come takes the place of the
 * one before, so that nobody connects to a device that is being flashed by now; `round` is another one for each list.
 */
export const Awaited = z.object({
  v: z.literal(1),
  round: z.number().int().nonnegative(),
  part: z.number().int().nonnegative(),
  parts: z.number().int().min(1).max(awaitedPartsMax),
  devices: z.array(AwaitedDevice).max(awaitedMax),
});
export type Awaited = z.infer<typeof Awaited>;
