/** What a build leaves behind: images by digest, and the manifest that says what they are and where they go. */
import { z } from "zod";
import { Digest } from "#protocol/ids.ts";

/** Largest image that the farm carries. ESPHome's largest flash is 32 MiB; debug ELF files are not artifacts. */
export const imageBytesMax = 64 * 1024 * 1024;

export const ImageRole = z.enum(["ota", "factory", "bootloader", "partition-table", "other", "debug"]);
export type ImageRole = z.infer<typeof ImageRole>;

export const Image = z.object({
  /** `ota` goes over the air, `factory` to a flash offset over serial, `bootloader` and `partition-table` over the air where a
   * person asks for that, `other` is any file that a glob matched, `debug` goes nowhere. */
  role: ImageRole,
  /** File name without a folder, as the build named it. */
  name: z.string().min(1).max(200),
  digest: Digest,
  bytes: z.number().int().nonnegative().max(imageBytesMax),
  /** Flash offset in bytes; only for a factory image. */
  offset: z.number().int().nonnegative().optional(),
});
export type Image = z.infer<typeof Image>;

/**
 * What ESPHome says of a build (`build_info.json`). `buildTimeStr` is byte for byte what the device answers as its
 * compilation time; an unchanged rebuild keeps it, so it identifies the binary and not the job.
 */
export const EsphomeBuild = z.object({
  name: z.string(),
  configHash: z.string(),
  buildTime: z.number().int(),
  buildTimeStr: z.string(),
  esphomeVersion: z.string(),
});
export type EsphomeBuild = z.infer<typeof EsphomeBuild>;

/** Who built an artifact, in the exact bytes that were signed: a `Statement` as JSON, and its Ed25519 signature. */
export const Provenance = z.object({ statement: z.string().max(1_500), signature: z.base64url().length(86) });
export type Provenance = z.infer<typeof Provenance>;

export const ArtifactManifest = z.object({
  v: z.literal(1),
  tool: z.object({ name: z.string(), version: z.string() }),
  /** `host`, `esp32`, `esp8266`, …; `generic` for the command driver. */
  platform: z.string(),
  /** Chip variant, e.g. `esp32c3`, where the build names one. */
  chip: z.string().optional(),
  images: z.array(Image).min(1).max(16),
  /** The ELF with its debug symbols, when it was asked for; apart from the images, so that nothing ever flashes it. */
  debug: z.array(Image).max(4).optional(),
  esphome: EsphomeBuild.optional(),
  /** Absent where nobody signs in, and in artifacts of older versions. */
  provenance: Provenance.optional(),
});
export type ArtifactManifest = z.infer<typeof ArtifactManifest>;
