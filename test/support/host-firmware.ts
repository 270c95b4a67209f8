/**
 * Builds ESPHome firmware for the `host` platform: real firmware with ESPHome's own over-the-air server and native API, that
 * runs as a process. Needs Python and g++. `FLASHYARD_TEST_ESPHOME` names an `esphome` command to use; otherwise an
 * environment is made once and kept below the user's cache folder.
 */
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { systemClock } from "#actor/clock.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { EsphomeBuild } from "#protocol/artifact.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";

const esphomeVersion = "2026.10.0";

export interface EsphomeTool {
  readonly esphome: string;
  /** The Python that has ESPHome's own uploader and API client. */
  readonly python: string;
  readonly variables: Readonly<Record<string, string>>;
}

/** Throws when there is no ESPHome and none can be made: a test of the real device must not pass without one. */
export async function findEsphome(): Promise<EsphomeTool> {
  const given = process.env["FLASHYARD_TEST_ESPHOME"];
  if (given !== undefined) {
    const plain = plainEnvironment();
    const variables = { ...plain, PATH: `${dirname(given)}${delimiter}${plain["PATH"] ?? ""}` };
    return { esphome: given, python: join(dirname(given), "python"), variables };
  }
  const cacheFolder = join(homedir(), ".cache", "flashyard-test");
  const made = await new EsphomeEnvironments({ cacheFolder, clock: systemClock }).ensure(esphomeVersion);
  if (!made.ok) throw new Error(`no ESPHome for this test: ${JSON.stringify(made)}`);
  return made.env;
}

export interface HostFirmware {
  /** The image: an executable of this machine. */
  readonly program: string;
  readonly image: Buffer;
  readonly build: EsphomeBuild;
}

export interface HostConfiguration {
  readonly name: string;
  readonly mac: string;
  readonly otaPort: number;
  readonly apiPort: number;
  readonly otaVersion?: 1 | 2;
  readonly password?: string;
  /** A key in base64, for the API and for updates; `isRequired`: no update is taken in plaintext. */
  readonly encryption?: { readonly key: string; readonly isRequired: boolean };
  /** Something that makes this build another than the one before. */
  readonly answer: number;
}

/**
 * ESPHome fetches the libraries of a cipher from PlatformIO's registry. A machine that does not reach it may have them in the cache
 * folder: `noise-c` (0.1.31) and `libsodium` (1.10021.12) of https://github.com/esphome-libs, the latter with its submodule and patches.
 */
const cachedLibraries = join(homedir(), ".cache", "flashyard-test", "libraries");

function librariesOf({ encryption }: HostConfiguration): readonly string[] {
  if (encryption === undefined || !existsSync(cachedLibraries)) return [];
  const urlOf = (name: string) => pathToFileURL(join(cachedLibraries, name)).href;
  return ["  libraries:", ...["noise-c", "libsodium"].map((name) => `    - "esphome/${name}=${urlOf(name)}"`)];
}

const yamlOf = (configuration: HostConfiguration): string =>
  [
    "esphome:",
    `  name: ${configuration.name}`,
    ...librariesOf(configuration),
    "host:",
    `  mac_address: "${configuration.mac}"`,
    "logger:",
    "  level: INFO",
    "api:",
    `  port: ${configuration.apiPort}`,
    "  reboot_timeout: 0s",
    ...(configuration.encryption === undefined ? [] : ["  encryption:", `    key: "${configuration.encryption.key}"`]),
    "ota:",
    "  - platform: esphome",
    `    port: ${configuration.otaPort}`,
    `    version: ${configuration.otaVersion ?? 2}`,
    ...(configuration.password === undefined ? [] : [`    password: "${configuration.password}"`]),
    ...(configuration.encryption?.isRequired === true ? ["    encryption:"] : []),
    "sensor:",
    "  - platform: template",
    "    name: answer",
    `    lambda: "return ${configuration.answer};"`,
    "",
  ].join("\n");

/** Builds one configuration below `folder`; the next one of the same name is built on the same warm tree. */
export async function buildHostFirmware(
  tool: EsphomeTool,
  folder: string,
  label: string,
  configuration: HostConfiguration,
): Promise<HostFirmware> {
  const yaml = join(folder, `${configuration.name}.yaml`);
  await mkdir(folder, { recursive: true });
  await writeFile(yaml, yamlOf(configuration));
  const { end, tail } = await runProcess({
    argv: [tool.esphome, "compile", yaml],
    cwd: folder,
    env: tool.variables,
    totalMs: 300_000,
  });
  if (end.kind !== "exited" || end.exitCode !== 0) throw new Error(`esphome compile failed:\n${tail.join("\n")}`);
  const tree = join(folder, ".esphome", "build", configuration.name);
  const info = JSON.parse(await readFile(join(tree, "build_info.json"), "utf8")) as Record<string, unknown>;
  const program = join(folder, `${label}.program`);
  await copyFile(join(tree, ".pioenvs", configuration.name, "program"), program);
  return {
    program,
    image: await readFile(program),
    build: EsphomeBuild.parse({
      name: configuration.name,
      configHash: String(info["config_hash"]),
      buildTime: info["build_time"],
      buildTimeStr: info["build_time_str"],
      esphomeVersion: info["esphome_version"],
    }),
  };
}
