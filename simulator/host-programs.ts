/** Tells when a program of the host platform was replaced by an update, or was started again. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#actor/clock.ts";
import type { DeviceBuild } from "#simulator/device-image.ts";
import type { HostDevice } from "#simulator/host-device.ts";
import { hostBuildIn } from "#simulator/host-image.ts";

export type HostEvent =
  /** It takes the place of the one before under the same process id. */
  | { readonly kind: "flashed"; readonly bytes: number; readonly build: DeviceBuild | undefined }
  | { readonly kind: "restarted" };

export interface WatchOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onEvent: (name: string, event: HostEvent) => void;
}

/** For whoever watches a terminal. */
const lookMs = 300;

/** @param folder of `startFactoryDevices` */
export async function watchPrograms(
  devices: readonly HostDevice[],
  folder: string,
  options: WatchOptions,
): Promise<void> {
  await Promise.all(devices.map((device) => watchProgram(device, join(folder, device.name, "flash/program"), options)));
}

async function watchProgram(
  device: HostDevice,
  program: string,
  { clock, signal, onEvent }: WatchOptions,
): Promise<void> {
  const { name } = device;
  // An update is renamed into its place.
  const inode = async () => (await stat(program).catch(() => undefined))?.ino;
  let known = await inode();
  let { starts } = device;
  while (await clock.pause(lookMs, signal)) {
    const now = await inode();
    if (now !== undefined && now !== known) {
      known = now;
      const image = await readFile(program);
      onEvent(name, { kind: "flashed", bytes: image.length, build: hostBuildIn(image, name) });
    }
    if (device.starts !== starts) onEvent(name, { kind: "restarted" });
    ({ starts } = device);
  }
}
