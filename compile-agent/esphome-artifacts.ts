/** Finds what ESPHome built, through the files that it writes for other programs (`storage_json.py`, `writer.py`). */
import { readFile, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import type { EsphomeBuild } from "#protocol/artifact.ts";
import type { WantedImage } from "#compile-agent/build.ts";

/** `.esphome/storage/<yaml>.json`, as far as it is used. */
const Storage = z.object({
  name: z.string(),
  /** `HOST`, `ESP8266`, or the chip variant: `ESP32C3`. */
  esp_platform: z.string().nullish(),
  core_platform: z.string().nullish(),
  build_path: z.string(),
  firmware_bin_path: z.string(),
});

const BuildInfo = z.object({
  config_hash: z.number().int(),
  build_time: z.number().int(),
  build_time_str: z.string(),
  esphome_version: z.string(),
});

export interface EsphomeArtifacts {
  readonly platform: string;
  readonly chip?: string;
  readonly images: readonly WantedImage[];
  /** The ELF; for the host the program itself, which ESPHome builds without `-g`. Absent where a build leaves none. */
  readonly debug?: WantedImage;
  /** Absent for releases that write no `build_info.json`. */
  readonly build?: EsphomeBuild;
  /** Deleting it makes the next run stamp a new build time into the binary. */
  readonly buildInfoFile: string;
}

/** @param entry the configuration's path inside `source`. @returns undefined when ESPHome left no record of a build. */
export async function findEsphomeArtifacts(source: string, entry: string): Promise<EsphomeArtifacts | undefined> {
  const storageFile = join(source, dirname(entry), ".esphome", "storage", `${basename(entry)}.json`);
  const storage = Storage.safeParse(await readJson(storageFile));
  if (!storage.success) return undefined;
  const { name, build_path: buildPath, firmware_bin_path: firmware } = storage.data;
  const root = await realpath(source);
  // The build wrote these paths: whatever leads out of its tree, by name or by a link on the way, would be read or deleted for it.
  if (!(await leadsInto(root, buildPath)) || !(await leadsInto(root, dirname(firmware)))) return undefined;
  const exists = (file: string) => leadsInto(root, file);
  const hardware = (storage.data.esp_platform ?? "unknown").toLowerCase();
  const platform = storage.data.core_platform ?? hardware;
  const buildInfoFile = join(buildPath, "build_info.json");
  const build = buildFrom(name, await readJson(buildInfoFile));
  const debug = platform === "host" ? firmware : await elfBeside(firmware, name, exists);
  return {
    platform,
    ...(hardware === platform ? {} : { chip: hardware }),
    images: await imagesBeside(firmware, exists),
    ...(debug === undefined ? {} : { debug: { role: "debug", name: basename(debug), file: debug } }),
    ...(build === undefined ? {} : { build }),
    buildInfoFile,
  };
}

/** What ESP32 builds leave besides, by PlatformIO and by ESP-IDF alone (`bootloader_bin`, `partition_table_bin` of esphome/core, 2026.10). */
const parts = [
  { role: "bootloader", paths: ["bootloader.bin", "bootloader/bootloader.bin"] },
  { role: "partition-table", paths: ["partitions.bin", "partition_table/partition-table.bin"] },
] as const;

/** ESP32 and ESP8266 builds put both images beside the plain one; elsewhere the plain one is what goes over the air. */
async function imagesBeside(firmware: string, exists: Exists): Promise<readonly WantedImage[]> {
  const folder = dirname(firmware);
  const overTheAir = join(folder, "firmware.ota.bin");
  const factory = join(folder, "firmware.factory.bin");
  const ota = (await exists(overTheAir)) ? overTheAir : firmware;
  const images: WantedImage[] = [{ role: "ota", name: basename(ota), file: ota }];
  // Made for offset 0: it has the bootloader and the partition table in front.
  if (await exists(factory)) images.push({ role: "factory", name: basename(factory), file: factory, offset: 0 });
  for (const { role, paths } of parts) {
    for (const file of paths.map((path) => join(folder, path))) {
      if (!(await exists(file))) continue;
      images.push({ role, name: basename(file), file });
      break;
    }
  }
  return images;
}

/**
 * ESP32, ESP8266 and RP2040 builds leave `firmware.elf` (`get_elf_path` of ESPHome's toolchains, 2026.10; ESP-IDF's own is called
 * after the device), nRF52 ones Zephyr's, LibreTiny ones `raw_firmware.elf`.
 */
async function elfBeside(firmware: string, name: string, exists: Exists): Promise<string | undefined> {
  const names = ["firmware.elf", `${name}.elf`, "zephyr/zephyr/zephyr.elf", "zephyr/zephyr.elf", "raw_firmware.elf"];
  for (const path of names.map((elf) => join(dirname(firmware), elf))) if (await exists(path)) return path;
  return undefined;
}

function buildFrom(name: string, json: unknown): EsphomeBuild | undefined {
  const info = BuildInfo.safeParse(json);
  if (!info.success) return undefined;
  return {
    name,
    // As ESPHome prints it in its log, over MQTT and in its version sensor: "config hash 0x%08x".
    configHash: `0x${info.data.config_hash.toString(16).padStart(8, "0")}`,
    buildTime: info.data.build_time,
    buildTimeStr: info.data.build_time_str,
    esphomeVersion: info.data.esphome_version,
  };
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as unknown;
  } catch {
    return undefined;
  }
}

type Exists = (file: string) => Promise<boolean>;

/** Whether the path is there, and inside of the folder with all links followed. */
async function leadsInto(root: string, path: string): Promise<boolean> {
  const real = await realpath(path).catch(() => undefined);
  return real !== undefined && (real === root || real.startsWith(`${root}/`));
}
