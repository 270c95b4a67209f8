/** The six devices of the demo: real ESPHome firmware that runs as processes of this machine. */
import { chmod, copyFile, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { requireFreePort } from "#actor/loopback-port.ts";
import { UsageError } from "#protocol/errors.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { type HostDevice, startHostDevice } from "#demo/host-device.ts";

/** As far as the demo reads its own examples. */
const Example = z.object({
  esphome: z.object({ name: z.string() }),
  api: z.object({ port: z.number() }),
  ota: z.array(z.object({ port: z.number() })).length(1),
});

export interface DemoDevice {
  /** The configuration's name, which is the device's as well. */
  readonly name: string;
  readonly target: OtaTarget;
}

/** The devices that the configurations of a folder describe, by name. */
export async function readDevices(folder: string): Promise<readonly DemoDevice[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".yaml")).toSorted();
  return Promise.all(
    files.map(async (file) => {
      const { esphome, api, ota } = Example.parse(parse(await readFile(join(folder, file), "utf8")));
      const port = ota[0]?.port ?? 0;
      const target: OtaTarget = {
        kind: "ota",
        host: "127.0.0.1",
        port,
        encrypted: false,
        api: { port: api.port },
        name: esphome.name,
      };
      return { name: esphome.name, target };
    }),
  );
}

/** Switches the devices on, each with the factory's program in a new home. @throws UsageError `port-taken` */
export async function startDevices(
  devices: readonly DemoDevice[],
  factoryProgram: string,
  folder: string,
): Promise<AsyncDisposable & { readonly devices: readonly HostDevice[] }> {
  for (const { name, target } of devices) {
    await requireFreePort(target.port, `the updates of ${name}`);
    if (target.api === undefined) throw new UsageError("no-api", `${name} has no api: the demo could not ask it`);
    await requireFreePort(target.api.port, `the API of ${name}`);
  }
  await using started = new AsyncDisposableStack();
  const running: HostDevice[] = [];
  for (const { name, target } of devices) {
    const home = join(folder, name);
    await rm(home, { recursive: true, force: true });
    await mkdir(join(home, "flash"), { recursive: true });
    const program = join(home, "flash", "program");
    await copyFile(factoryProgram, program);
    await chmod(program, 0o755);
    const variables = { FLASHYARD_DEVICE: `${name} ${target.port} ${target.api?.port ?? 0}` };
    running.push(started.use(await startHostDevice({ name, program, home, logFile: join(home, "log"), variables })));
  }
  const all = started.move();
  return { devices: running, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
