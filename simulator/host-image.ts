/** What a simulated device can tell of a real image: a program that ESPHome has built for the `host` platform. Pure. */
import type { DeviceBuild } from "#simulator/device-image.ts";

const elf = "\u007fELF";
/** As ESPHome 2026.10 puts them into a program: texts that end with a zero. */
const buildTime = /\0(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\0/g;
const version = /ESPHome version (\d{4}\.\d{1,2}\.\d{1,2}[a-z0-9]*)/;

/**
 * The build of a program whose device is called `name`; undefined for what is no such program, for one of another name, and for one
 * whose build time is not the only text of that form.
 */
export function hostBuildIn(image: Uint8Array, name: string): DeviceBuild | undefined {
  const text = Buffer.from(image.buffer, image.byteOffset, image.byteLength).toString("latin1");
  if (!text.startsWith(elf) || !text.includes(`\0${name}\0`)) return undefined;
  const times = [...text.matchAll(buildTime)];
  const [compilationTime] = times.map(([, time]) => time);
  const [, esphomeVersion] = version.exec(text) ?? [];
  if (times.length !== 1 || compilationTime === undefined || esphomeVersion === undefined) return undefined;
  return { name, compilationTime, esphomeVersion };
}
