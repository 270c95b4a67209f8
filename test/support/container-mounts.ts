/** What containers get of this machine: folders that are theirs, and the tests' ESPHome. */
import { chmod, chown, cp, mkdir, readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { findEsphome } from "#test/support/host-firmware.ts";
import { testCacheFolder } from "#test/support/real-device.ts";

/** Of the images' user. */
const userId = 10_001;

/** To the user of the images, with everything in it. */
export async function give(folder: string): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  await chown(folder, userId, userId);
  for (const entry of entries) await chown(join(entry.parentPath, entry.name), userId, userId);
}

/** The tests' ESPHome at its own place, which its programs are bound to, in a cache that the agent may write. */
export async function toolchainMounts(cache: string): Promise<Readonly<Record<string, string>>> {
  const environment = dirname(dirname((await findEsphome()).esphome));
  const version = dirname(environment);
  const own = join(cache, "esphome", version.split("/").at(-1) ?? "");
  await mkdir(own, { recursive: true });
  await cp(join(version, "ready.json"), join(own, "ready.json"));
  // It was made for its owner alone.
  await chmod(environment, 0o755);
  const settings = await readFile(join(environment, "pyvenv.cfg"), "utf8");
  const python = dirname(/^home = (.*)$/m.exec(settings)?.[1] ?? "/usr/bin");
  return {
    [cache]: testCacheFolder,
    [environment]: environment,
    // A Python of the system is in the images as well.
    ...(python === "/usr" ? {} : { [python]: python }),
  };
}
