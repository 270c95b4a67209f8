/** What a configuration says of its device: name, platform, and where and how it is flashed over the air. */
import { basename, dirname, resolve } from "node:path";
import { parse } from "yaml";
import type { Medium, OtaTarget } from "#protocol/job.ts";
import { OpenOtaTarget } from "#protocol/target-secrets.ts";
import { failed, type Attempt } from "#toolchain/attempt.ts";
import { configurationSilenceMsMax, configurationTotalMsMax, missingConfiguration } from "#toolchain/bundle.ts";
import { runEsphome } from "#toolchain/esphome-command.ts";
import type { EnsureOptions, EsphomeEnvironment } from "#toolchain/esphome-environment.ts";

export interface DeviceConfiguration {
  /** File name without the ending: the configuration's name in the farm. */
  readonly name: string;
  /** `esphome: name:` */
  readonly esphomeName: string;
  /** ESPHome's platform, e.g. `host`, `esp32`, `rp2`; `unknown` for one that this release of ours has not met. */
  readonly platform: string;
  /** What esptool calls the chip, e.g. `esp32c3`; absent where the platform says it all or has none. */
  readonly chip?: string;
  /** It has `deep_sleep:`, so that most of the time nobody answers. */
  readonly sleeps: boolean;
  /** Absent when the configuration has no `ota: - platform: esphome`. Holds secrets. */
  readonly target?: OtaTarget;
  /** `name_add_mac_suffix`: the devices' real names and addresses cannot be told from the file. */
  readonly addsMacSuffix: boolean;
}

/** Ports of `ota: platform: esphome` (ESPHome 2026.10.0, components/esphome/ota/__init__.py). */
const otaPorts: Readonly<Record<string, number>> = {
  esp8266: 8266,
  esp32: 3232,
  rp2: 2040,
  rp2040: 2040,
  bk72xx: 8892,
  rtl87xx: 8892,
  ln882x: 8820,
  host: 8082,
};
const platforms = [...Object.keys(otaPorts), "nrf52", "libretiny"];
/** components/api/__init__.py */
const apiPort = 6053;

/**
 * Runs `esphome config --show-secrets` and reads the validated configuration that it prints. Its output never reaches
 * `onLine`, a log or a failure. Failures: as `makeBundle`.
 */
export async function readConfiguration(
  env: EsphomeEnvironment,
  yamlFile: string,
  options: EnsureOptions = {},
): Promise<Attempt<{ readonly configuration: DeviceConfiguration }>> {
  const file = resolve(yamlFile);
  const missing = await missingConfiguration(file);
  if (missing !== undefined) return missing;
  const run = await runEsphome({
    env,
    args: ["config", "--show-secrets", basename(file)],
    folder: dirname(file),
    silenceMs: configurationSilenceMsMax,
    totalMs: configurationTotalMsMax,
    signal: options.signal,
    onLine: options.onLine,
    keepsStdout: true,
  });
  if (!run.ok) return run;
  const name = basename(file).replace(/\.ya?ml$/i, "");
  const configuration = configurationFrom(run.stdout, name);
  if (typeof configuration !== "string") return { ok: true, configuration };
  return failed({ kind: "config-invalid", exitCode: 0, tail: [`${basename(file)}: ${configuration}`] });
}

/** Reads the printed YAML. @returns a line that says what it lacks, when it cannot be used. */
export function configurationFrom(printed: string, name: string): DeviceConfiguration | string {
  const whole = new Section(parseAsText(printed));
  const esphomeName = whole.section("esphome").text("name");
  if (esphomeName === undefined) return "ESPHome printed no configuration with a name";
  const platform = platforms.find((candidate) => whole.has(candidate)) ?? "unknown";
  const target = targetFrom(whole, esphomeName, platform);
  if (typeof target === "string") return target;
  return {
    name,
    esphomeName,
    platform,
    ...chipFrom(whole, platform),
    sleeps: whole.has("deep_sleep"),
    ...(target === undefined ? {} : { target }),
    addsMacSuffix: whole.section("esphome").text("name_add_mac_suffix") === "true",
  };
}

function chipFrom(whole: Section, platform: string): { readonly chip?: string } {
  if (platform === "esp8266") return { chip: platform };
  const variant = platform === "esp32" ? whole.section("esp32").text("variant") : undefined;
  return variant === undefined ? {} : { chip: variant.toLowerCase() };
}

function targetFrom(whole: Section, name: string, platform: string): OtaTarget | string | undefined {
  const ota = whole.list("ota").find((entry) => entry.text("platform") === "esphome");
  if (ota === undefined) return undefined;
  const api = whole.section("api");
  const password = ota.text("password");
  const otaKey = ota.section("encryption").text("key");
  const encryptionKey = api.section("encryption").text("key");
  const mac = platform === "host" ? whole.section("host").text("mac_address") : undefined;
  const parsed = OpenOtaTarget.safeParse({
    kind: "ota",
    host: hostFrom(whole, name, platform),
    port: Number(ota.text("port") ?? otaPorts[platform]),
    // An empty password is none: the device then does not ask for one.
    ...(password === undefined || password === "" ? {} : { password }),
    ...encryptionFrom(ota),
    ...(otaKey === undefined ? {} : { encryptionKey: otaKey }),
    ...mediumFrom(whole),
    ...(whole.has("api")
      ? {
          api: { port: Number(api.text("port") ?? apiPort), ...(encryptionKey === undefined ? {} : { encryptionKey }) },
        }
      : {}),
    name,
    ...(mac === undefined ? {} : { mac: mac.toUpperCase() }),
  });
  if (parsed.success) return parsed.data;
  return `the farm cannot use its ${parsed.error.issues.map((issue) => issue.path.join(" ")).join(", ")} for an upload`;
}

/**
 * `ota: encryption:` demands it, except from a device that its owner says has yet to learn it (`allow_plaintext_upload`). A key of the
 * API alone demands nothing: firmware from before it has one takes only plaintext.
 */
function encryptionFrom(ota: Section): Pick<OtaTarget, "encryption" | "encrypted"> {
  if (!ota.has("encryption")) return { encrypted: false };
  const isLenient = ota.section("encryption").text("allow_plaintext_upload") === "true";
  return { encryption: isLenient ? "opportunistic" : "require", encrypted: !isLenient };
}

/** The border router of a Thread device stands in no configuration; its owner may name it (`cli/device-settings.ts`). */
function mediumFrom(whole: Section): { readonly medium?: Medium } {
  if (whole.has("openthread")) return { medium: { kind: "thread" } };
  if (whole.has("ethernet")) return { medium: { kind: "ethernet" } };
  return whole.has("wifi") ? { medium: { kind: "wifi" } } : {};
}

/** ESPHome itself writes `use_address` into the validated configuration; older releases left it to the reader. */
function hostFrom(whole: Section, name: string, platform: string): string {
  if (platform === "host") return "127.0.0.1";
  for (const network of ["wifi", "ethernet", "openthread"]) {
    if (!whole.has(network)) continue;
    const section = whole.section(network);
    const domain = section.text("domain") ?? ".local";
    return section.text("use_address") ?? section.section("manual_ip").text("static_ip") ?? `${name}${domain}`;
  }
  return `${name}.local`;
}

/**
 * Everything stays text: PyYAML quotes for YAML 1.1, and reading plain scalars by the rules of 1.2 would turn a password
 * such as `0o17` into a number. Unknown tags (`!lambda`) are read as what they stand on.
 */
function parseAsText(printed: string): unknown {
  try {
    return parse(printed, { schema: "failsafe", logLevel: "silent", uniqueKeys: false }) as unknown;
  } catch {
    return undefined;
  }
}

/** A mapping of the configuration, or an empty one where there is none. */
class Section {
  readonly #entries: Readonly<Record<string, unknown>>;

  constructor(value: unknown) {
    this.#entries = typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#entries, key);
  }

  text(key: string): string | undefined {
    const value = this.has(key) ? this.#entries[key] : undefined;
    return typeof value === "string" ? value : undefined;
  }

  section(key: string): Section {
    return new Section(this.has(key) ? this.#entries[key] : undefined);
  }

  /** A single mapping counts as a list of one. */
  list(key: string): readonly Section[] {
    const value = this.has(key) ? this.#entries[key] : undefined;
    return (Array.isArray(value) ? value : [value]).map((entry) => new Section(entry));
  }
}
