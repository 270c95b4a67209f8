/** How a device is flashed over a port of the machine beside it. */
import { z } from "zod";

/**
 * What a port is called for good: the name that the system made of the adapter's maker, product and serial number
 * (`/dev/serial/by-id`), never `ttyUSB0`, which is another adapter's after the next restart.
 */
export const PortId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:+-]{0,119}$/, "a port is named as `flashyard ports` lists it")
  .brand<"PortId">();
export type PortId = z.infer<typeof PortId>;

/** Chips that esptool knows by these names (5.4), as ESPHome names the variants too. */
export const EspChip = z.enum([
  "esp8266",
  "esp32",
  "esp32s2",
  "esp32s3",
  "esp32c2",
  "esp32c3",
  "esp32c5",
  "esp32c6",
  "esp32c61",
  "esp32h2",
  "esp32p4",
]);
export type EspChip = z.infer<typeof EspChip>;

/** A name of a command that the owner of an upload agent has written down there. */
export const FlasherName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/, "a flasher is named with a-z, 0-9, -");
export type FlasherName = z.infer<typeof FlasherName>;

/** Which image of a build is written, by its name; absent: those that are made for it. */
const image = z.string().min(1).max(200).optional();

/**
 * The program that writes the image.
 *
 * - `esptool`: the ESP family. The chip must be the one that is named, otherwise nothing is written.
 * - `avrdude`: AVR with a bootloader or a programmer; `part` and `programmer` as avrdude calls them (`m328p`, `arduino`).
 * - `command`: a program that the agent's owner allows by name; a job brings no command of its own.
 */
export const SerialTool = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("esptool"),
    chip: EspChip,
    baud: z.number().int().min(9_600).max(5_000_000).optional(),
    image,
  }),
  z.object({
    kind: z.literal("avrdude"),
    part: z.string().regex(/^[A-Za-z0-9_]{1,40}$/),
    programmer: z.string().regex(/^[A-Za-z0-9_-]{1,40}$/),
    baud: z.number().int().min(300).max(2_000_000).optional(),
    image,
  }),
  z.object({ kind: z.literal("command"), flasher: FlasherName, image }),
]);
export type SerialTool = z.infer<typeof SerialTool>;

/** A port that an agent has. */
export const SerialPortView = z.object({
  id: PortId,
  /** Where it is now: `/dev/ttyUSB0`. */
  path: z.string().max(200),
  manufacturer: z.string().max(120).optional(),
  /** USB vendor and product, four hexadecimal digits each. */
  vendorId: z.string().max(8).optional(),
  productId: z.string().max(8).optional(),
  serialNumber: z.string().max(120).optional(),
});
export type SerialPortView = z.infer<typeof SerialPortView>;

/** The agent reads on for so long after the last wish of a reader (ms). */
export const serialLeaseMs = 15_000;
/** A reader repeats its wish this often (ms), so that three may be lost. */
export const serialWishEveryMs = 4_000;

/** What ESPHome's logger uses unless it is told otherwise. */
export const serialLogBaud = 115_200;

/** Somebody wants to read what a device says on its port; repeated as a lease, and answered with parts. */
export const SerialLogWish = z.object({
  v: z.literal(1),
  port: PortId,
  baud: z.number().int().min(300).max(5_000_000),
  /** Sixteen hexadecimal digits by which the agent knows who repeats its wish. */
  reader: z.string().regex(/^[0-9a-f]{16}$/),
  /** The reader has enough. */
  isOver: z.boolean().optional(),
});
export type SerialLogWish = z.infer<typeof SerialLogWish>;

/** A part holds no more lines, each of no more than `logLineBytesMax`; and about so many bytes. */
export const serialLinesMax = 1_000;
export const serialPartBytes = 32_768;

/** A part of the answer to a `SerialLogWish`. What a device says is untrusted. */
export const SerialLogPart = z.discriminatedUnion("kind", [
  /** From now on nothing is missed. */
  z.object({ v: z.literal(1), kind: z.literal("opened") }),
  /** `leftOut` lines before these came too fast. */
  z.object({
    v: z.literal(1),
    kind: z.literal("lines"),
    lines: z.array(z.string()).max(serialLinesMax),
    leftOut: z.number().int().nonnegative(),
  }),
  /** The port is not read now; it is opened again as soon as it can be. */
  z.object({
    v: z.literal(1),
    kind: z.literal("paused"),
    why: z.enum(["flash", "unplugged", "busy"]),
    detail: z.string().max(500).optional(),
  }),
  z.object({
    v: z.literal(1),
    kind: z.literal("ended"),
    why: z.enum(["no-port", "other-baud", "too-many", "agent-ends"]),
    detail: z.string().max(500).optional(),
  }),
]);
export type SerialLogPart = z.infer<typeof SerialLogPart>;
