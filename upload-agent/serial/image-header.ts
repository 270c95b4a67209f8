/**
 * The head of an ESP image, read before any program is started: whether it is an image at all, for which chip, and whole. Pure.
 * The format is that of esptool's documentation (“Firmware Image Format”).
 */
import { createHash } from "node:crypto";
import type { EspChip } from "#protocol/serial.ts";

const magic = 0xe9;
const headBytes = 8;
const extendedHeadBytes = 16;
const segmentHeadBytes = 8;
const segmentsMax = 16;
const digestBytes = 32;

interface ChipImage {
  /** In the extended head; the ESP8266 has none. */
  readonly id?: number;
  /** Where the chip looks for its bootloader in the flash. */
  readonly bootloaderAt: number;
}

/** `IMAGE_CHIP_ID` and `BOOTLOADER_FLASH_OFFSET` of esptool 5.4. */
const chipImages: Readonly<Record<EspChip, ChipImage>> = {
  esp8266: { bootloaderAt: 0 },
  esp32: { id: 0, bootloaderAt: 0x1000 },
  esp32s2: { id: 2, bootloaderAt: 0x1000 },
  esp32s3: { id: 9, bootloaderAt: 0 },
  esp32c2: { id: 12, bootloaderAt: 0 },
  esp32c3: { id: 5, bootloaderAt: 0 },
  esp32c5: { id: 23, bootloaderAt: 0x2000 },
  esp32c6: { id: 13, bootloaderAt: 0 },
  esp32c61: { id: 20, bootloaderAt: 0 },
  esp32h2: { id: 16, bootloaderAt: 0 },
  esp32p4: { id: 18, bootloaderAt: 0x2000 },
};

/** Where bootloaders lie, and so where a head may be in an image for the start of the flash. */
const bootloaderPlaces = [...new Set(Object.values(chipImages).map(({ bootloaderAt }) => bootloaderAt))];

export interface ImageHead {
  /** `unknown-<id>` for a chip of which nothing is known here. */
  readonly chip: string;
  readonly segments: number;
  readonly hasDigest: boolean;
}

export type ImageReading =
  | { readonly kind: "image"; readonly head: ImageHead }
  /** It begins like an image and is none, or not a whole one. */
  | { readonly kind: "broken"; readonly detail: string }
  | { readonly kind: "no-image" };

export type ImageVerdict =
  | { readonly kind: "fits" }
  | { readonly kind: "other-chip"; readonly found: string }
  | { readonly kind: "unsuitable"; readonly detail: string };

/**
 * Whether an image may be written to a chip.
 * @param offset in the flash. An image that covers the bootloader's place must have one for this chip there; what lies elsewhere may
 * be data, but an image for another chip is refused wherever it lies.
 */
export function judgeImage(image: Uint8Array, offset: number, chip: EspChip): ImageVerdict {
  if (image.length === 0) return { kind: "unsuitable", detail: "it is empty" };
  const wantedAt = chipImages[chip].bootloaderAt - offset;
  const places = new Set([wantedAt, 0, ...bootloaderPlaces.map((place) => place - offset)]);
  const readings = [...places]
    .filter((place) => place >= 0 && place < image.length)
    .map((place) => ({ place, reading: readImage(image.subarray(place)) }));
  for (const { reading } of readings) {
    if (reading.kind === "image" && reading.head.chip !== chip) return { kind: "other-chip", found: reading.head.chip };
  }
  const wanted =
    readings.find(({ place }) => place === wantedAt)?.reading ?? readings.find(({ place }) => place === 0)?.reading;
  if (wanted?.kind === "broken") return { kind: "unsuitable", detail: wanted.detail };
  const coversBootloader = wantedAt >= 0 && wantedAt < image.length;
  if (coversBootloader && wanted?.kind === "no-image") {
    const place = `0x${chipImages[chip].bootloaderAt.toString(16)}`;
    return { kind: "unsuitable", detail: `it has no ${chip} image where the bootloader belongs (${place})` };
  }
  return { kind: "fits" };
}

/** @param bytes from the head on; what comes behind the image is not looked at. */
export function readImage(bytes: Uint8Array): ImageReading {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (data[0] !== magic) return { kind: "no-image" };
  if (data.length < headBytes) return { kind: "broken", detail: "it is cut off in its head" };
  const segments = data[1] ?? 0;
  if (segments === 0 || segments > segmentsMax)
    return { kind: "broken", detail: `it says that it has ${segments} segments` };
  const isOldest = isEsp8266(data.readUInt32LE(4));
  if (!isOldest && data.length < headBytes + extendedHeadBytes) {
    return { kind: "broken", detail: "it is cut off in its head" };
  }
  const id = isOldest ? undefined : data.readUInt16LE(12);
  const hasDigest = !isOldest && data[headBytes + extendedHeadBytes - 1] === 1;
  const chip = isOldest ? "esp8266" : nameOfChip(id ?? 0);
  const end = endOfSegments(data, isOldest ? headBytes : headBytes + extendedHeadBytes, segments);
  if (end === undefined) return { kind: "broken", detail: "it is cut off: a segment ends behind it" };
  if (hasDigest) {
    const stored = data.subarray(end, end + digestBytes);
    const found = createHash("sha256").update(data.subarray(0, end)).digest();
    if (!found.equals(stored)) return { kind: "broken", detail: "its SHA-256 is not the one that it carries" };
  }
  return { kind: "image", head: { chip, segments, hasDigest } };
}

/** The entry point lies in the instruction memory of the ESP8266, or in its cache, where eboot is; no other chip has one there. */
function isEsp8266(entry: number): boolean {
  return entry >= 0x4010_0000 && entry < 0x4011_0000;
}

function nameOfChip(id: number): string {
  const known = Object.entries(chipImages).find(([, image]) => image.id === id);
  return known?.[0] ?? `unknown-${id}`;
}

/** A byte of checksum fills the last 16 bytes. @returns undefined when the data ends before. */
function endOfSegments(data: Buffer, from: number, segments: number): number | undefined {
  let at = from;
  for (let left = segments; left > 0; left--) {
    if (at + segmentHeadBytes > data.length) return undefined;
    at += segmentHeadBytes + data.readUInt32LE(at + 4);
  }
  const end = at + 16 - (at % 16);
  return end <= data.length ? end : undefined;
}
