/** Devices that begin with the factory's firmware (`factory.yaml`), a real ESPHome program, which takes name and ports from its environment. */
import { chmod, copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { requireFreePort } from "#actor/loopback-port.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { type HostDevice, startHostDevice } from "#simulator/host-device.ts";

export const factoryConfiguration = join(import.meta.dirname, "factory.yaml");

export interface FactoryDevice {
  readonly name: string;
  /** On 127.0.0.1 */
  readonly otaPort: number;
  readonly apiPort: number;
}

/**
 * Switches the devices on, each in a new home below the folder. An update replaces the program there.
 * @param program of the factory's firmware @param ledger ends them when this process is killed. @throws UsageError `port-taken`
 */
export async function startFactoryDevices(
  devices: readonly FactoryDevice[],
  program: string,
  folder: string,
  ledger?: GroupLedger,
): Promise<AsyncDisposable & { readonly devices: readonly HostDevice[] }> {
  for (const { name, otaPort, apiPort } of devices) {
    await requireFreePort(otaPort, `the updates of ${name}`);
    await requireFreePort(apiPort, `the API of ${name}`);
  }
  await using started = new AsyncDisposableStack();
  const running: HostDevice[] = [];
  for (const { name, otaPort, apiPort } of devices) {
    const home = join(folder, name);
    await rm(home, { recursive: true, force: true });
    await mkdir(join(home, "flash"), { recursive: true });
    const own = join(home, "flash", "program");
    await copyFile(program, own);
    await chmod(own, 0o755);
    const variables = { FLASHYARD_DEVICE: `${name} ${otaPort} ${apiPort}` };
    const noted = ledger === undefined ? {} : { ledger };
    const logFile = join(home, "log");
    running.push(started.use(await startHostDevice({ name, program: own, home, logFile, variables, ...noted })));
  }
  const all = started.move();
  return { devices: running, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
