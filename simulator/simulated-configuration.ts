/** The configuration that fits a simulated device, as a file of ESPHome that `flashyard install` takes as it is. Pure. */
import { createHash } from "node:crypto";
import type { SimulatedChip } from "#simulator/rom-loader-chips.ts";

export interface SimulatedConfiguration {
  readonly name: string;
  readonly otaPort: number;
  readonly apiPort: number;
  /** Absent: the same as that of every other program of the host platform. */
  readonly mac?: string | undefined;
  readonly password?: string | undefined;
  /** Of the update protocol. */
  readonly protocol?: 1 | 2 | undefined;
  /** In base64. */
  readonly encryption?: string | undefined;
  /** It is not always there. */
  readonly sleeps?: boolean | undefined;
}

/** The same for the same name; locally administered. */
export function macOf(name: string): string {
  const digits = createHash("sha256").update(name).digest("hex").slice(0, 10).toUpperCase();
  return ["02", ...(digits.match(/../g) ?? [])].join(":");
}

/** The first line of every file, by which one is known for ours, and for one of another device. */
function headOf(parts: object): string {
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 8);
  return `# For a simulated device (flashyard device simulate), ${digest}. Change it and install it again.`;
}

/** `ours`: written for this very device, and perhaps changed since; `older`: for one with other options; otherwise a stranger's. */
export function originOf(text: string, written: string): "ours" | "older" | "stranger" {
  const [head = ""] = text.split("\n");
  if (head === written.split("\n")[0]) return "ours";
  return head.startsWith(headOf({}).split(",")[0] ?? "") ? "older" : "stranger";
}

/** For the host platform: the farm builds a real program, and nothing but a C++ compiler is needed for that. */
export function hostConfiguration(device: SimulatedConfiguration): string {
  const { name, otaPort, apiPort, mac, password, protocol, encryption, sleeps } = device;
  const quoted = (text: string) => JSON.stringify(text);
  return [
    headOf(device),
    ...(sleeps === true ? [".flashyard:", "  when-online: true"] : []),
    "esphome:",
    `  name: ${name}`,
    "host:",
    ...(mac === undefined ? [] : [`  mac_address: ${quoted(mac)}`]),
    "logger:",
    "  level: INFO",
    "api:",
    `  port: ${apiPort}`,
    "  reboot_timeout: 0s",
    ...(encryption === undefined ? [] : ["  encryption:", `    key: ${quoted(encryption)}`]),
    "ota:",
    "  - platform: esphome",
    `    port: ${otaPort}`,
    ...(protocol === undefined ? [] : [`    version: ${protocol}`]),
    ...(password === undefined ? [] : [`    password: ${quoted(password)}`]),
    ...(encryption === undefined ? [] : ["    encryption:"]),
    "sensor:",
    "  - platform: template",
    "    name: brightness",
    "    lambda: return 42;",
    "",
  ].join("\n");
}

/** For a chip at a port; what builds it are Espressif's tools, which ESPHome fetches. */
export function chipConfiguration({
  name,
  port,
  chip,
}: {
  readonly name: string;
  readonly port: string;
  readonly chip: SimulatedChip;
}): string {
  const platform = chip === "esp8266" ? ["esp8266:", "  board: nodemcuv2"] : ["esp32:", `  variant: ${chip}`];
  return [
    headOf({ name, port, chip }),
    ".flashyard:",
    `  port: ${port}`,
    "esphome:",
    `  name: ${name}`,
    ...platform,
    "logger:",
    "",
  ].join("\n");
}
