/** What a machine beside the devices needs: its ports, the programs that flash over them, and a network to look for devices in. */
import { access, constants, readdir } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { type Check, ok, warning } from "#cli/doctor/check.ts";
import { answerOf, checkProgram, type ProgramAnswer } from "#cli/doctor/tools.ts";

export interface PortFact {
  readonly path: string;
  readonly isOpen: boolean;
}

export async function checkFlashing(environment: NodeJS.ProcessEnv, signal: AbortSignal): Promise<readonly Check[]> {
  const [esptool, avrdude, ports] = await Promise.all([
    answerOf([environment["FLASHYARD_ESPTOOL"] ?? "esptool", "version"], signal),
    answerOf([environment["FLASHYARD_AVRDUDE"] ?? "avrdude", "-?"], signal),
    serialPorts("/dev"),
  ]);
  const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const outward = addresses
    .filter(({ internal, family }) => !internal && family === "IPv4")
    .map(({ address }) => address);
  return [
    checkPorts(ports),
    checkEsptool(esptool, environment["FLASHYARD_ESPTOOL"]),
    checkProgram("avrdude", avrdude, "apt install avrdude, if this machine is to flash AVR boards"),
    checkMulticast(environment["FLASHYARD_MDNS"] ?? "on", outward),
  ];
}

/** USB adapters and boards with USB of their own. */
export async function serialPorts(dev: string): Promise<readonly PortFact[]> {
  const names = (await readdir(dev).catch(() => [])).filter((name) => /^tty(USB|ACM)\d+$/.test(name));
  return Promise.all(
    names.map(async (name) => {
      const path = join(dev, name);
      const isOpen = await access(path, constants.R_OK | constants.W_OK).then(
        () => true,
        () => false,
      );
      return { path, isOpen };
    }),
  );
}

/** Pure. */
export function checkPorts(ports: readonly PortFact[]): Check {
  const name = "serial ports";
  const closed = ports.filter(({ isOpen }) => !isOpen).map(({ path }) => path);
  if (closed.length > 0) {
    const fix = "put the agent's user into the group dialout (usermod -aG dialout USER), and start the agent again";
    return warning(name, `this user may not open ${closed.join(", ")}`, fix);
  }
  return ok(name, ports.length === 0 ? "no USB adapter is plugged in" : ports.map(({ path }) => path).join(", "));
}

/** Pure. @param named FLASHYARD_ESPTOOL */
export function checkEsptool(answer: ProgramAnswer, named: string | undefined): Check {
  if (answer.state === "missing" && named === undefined)
    return ok("esptool", "not on the PATH: the agent installs one when it first flashes over a port");
  return checkProgram("esptool", answer, "name an esptool of 5.4 or later in FLASHYARD_ESPTOOL, or none");
}

/** Pure. @param setting FLASHYARD_MDNS @param addresses of this machine, beyond loopback */
export function checkMulticast(setting: string, addresses: readonly string[]): Check {
  const name = "mDNS";
  if (setting === "off") return ok(name, "turned off (FLASHYARD_MDNS)");
  const wanted = setting === "on" ? addresses : setting.split(",").map((address) => address.trim());
  const foreign = wanted.filter((address) => !addresses.includes(address));
  if (foreign.length > 0)
    return warning(name, `${foreign.join(", ")} is no address of this machine`, "mend FLASHYARD_MDNS");
  if (wanted.length > 0) return ok(name, `looks for devices from ${wanted.join(", ")}`);
  return warning(name, "this machine has no IPv4 address in a network", "connect it, or set FLASHYARD_MDNS=off");
}
