/** The six devices of the demo: real ESPHome firmware that runs as processes of this machine. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { UsageError } from "#protocol/errors.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { startFactoryDevices } from "#simulator/factory-devices.ts";

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

/** Switches the devices on, with the factory's program. @throws UsageError `no-api`, `port-taken` */
export async function startDevices(
  devices: readonly DemoDevice[],
  factoryProgram: string,
  folder: string,
): Promise<AsyncDisposable> {
  const wanted = devices.map(({ name, target }) => {
    if (target.api === undefined) throw new UsageError("no-api", `${name} has no api: the demo could not ask it`);
    return { name, otaPort: target.port, apiPort: target.api.port };
  });
  return startFactoryDevices(wanted, factoryProgram, folder);
}
