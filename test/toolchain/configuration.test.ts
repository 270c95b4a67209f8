import { expect, test } from "vitest";
import { encryptionOf } from "#protocol/job.ts";
import { configurationFrom } from "#toolchain/configuration.ts";

const read = (text: string) => {
  const configuration = configurationFrom(text, "porch");
  if (typeof configuration === "string") throw new Error(configuration);
  return configuration;
};
const ota = "ota:\n  - platform: esphome\n";

test("a host device is flashed on this machine, at its own port and known by its MAC address", () => {
  const text = `esphome:
  name: porch
  name_add_mac_suffix: false
host:
  mac_address: 06:35:69:ab:f6:79
sensor:
  - platform: template
    lambda: !lambda |-
      return hello();
api:
  port: 16053
  reboot_timeout: 0s
ota:
  - platform: web_server
  - platform: esphome
    port: 18082
    password: hunter2
`;
  expect(read(text)).toEqual({
    name: "porch",
    esphomeName: "porch",
    platform: "host",
    addsMacSuffix: false,
    sleeps: false,
    target: {
      kind: "ota",
      host: "127.0.0.1",
      port: 18082,
      password: "hunter2",
      encrypted: false,
      api: { port: 16053 },
      name: "porch",
      mac: "06:35:69:AB:F6:79",
    },
  });
});

test("every platform has its own default port", () => {
  const portOf = (platform: string) => read(`esphome:\n  name: a\n${platform}:\n  board: x\n${ota}`).target?.port;
  expect(["esp8266", "esp32", "rp2", "rp2040", "bk72xx", "rtl87xx", "ln882x", "host"].map(portOf)).toEqual([
    8266, 3232, 2040, 2040, 8892, 8892, 8820, 8082,
  ]);
});

test("the address is what the network section says, else the name", () => {
  const hostOf = (network: string) => read(`esphome:\n  name: a\nesp32:\n  board: x\n${network}${ota}`).target?.host;
  expect(hostOf("wifi:\n  use_address: 10.0.0.9\n  manual_ip:\n    static_ip: 10.0.0.7\n")).toBe("10.0.0.9");
  expect(hostOf("wifi:\n  manual_ip:\n    static_ip: 10.0.0.7\n")).toBe("10.0.0.7");
  expect(hostOf("ethernet:\n  domain: .lan\n")).toBe("a.lan");
  expect(hostOf("openthread:\n  tlv: x\n")).toBe("a.local");
  expect(hostOf("")).toBe("a.local");
});

test("encryption is demanded when the configuration demands it, and only then", () => {
  const targetOf = (api: string, ota: string) =>
    read(`esphome:\n  name: a\nesp32:\n  board: x\n${api}ota:\n  - platform: esphome\n${ota}`).target;
  const api = "api:\n  encryption:\n    key: Zm9v\n";
  const demanding = targetOf(api, "    encryption:\n      key: YmFy\n");
  expect(demanding).toMatchObject({ encryption: "require", encrypted: true, encryptionKey: "YmFy" });
  expect(encryptionOf(demanding!)).toEqual({ policy: "require", key: "YmFy" });
  expect(encryptionOf(targetOf(api, "    encryption: {}\n")!)).toEqual({ policy: "require", key: "Zm9v" });
  expect(encryptionOf(targetOf(api, "    encryption:\n")!)).toEqual({ policy: "require", key: "Zm9v" });
  const lenient = targetOf(api, "    encryption:\n      key: Zm9v\n      allow_plaintext_upload: true\n");
  expect(encryptionOf(lenient!)).toEqual({ policy: "opportunistic", key: "Zm9v" });
  expect(lenient?.encrypted).toBe(false);
  const silent = targetOf(api, "    version: 2\n");
  expect(encryptionOf(silent!)).toEqual({ policy: "never", key: "Zm9v" });
  expect(silent).toMatchObject({ api: { port: 6053, encryptionKey: "Zm9v" } });
});

test("a password stays the text that it is, and an empty one is none", () => {
  const passwordOf = (value: string) =>
    read(`esphome:\n  name: a\nhost: {}\n${ota}    password: ${value}\n`).target?.password;
  expect(["0o17", "12e3", "'0123'", "yes", '"a # b"'].map(passwordOf)).toEqual([
    "0o17",
    "12e3",
    "0123",
    "yes",
    "a # b",
  ]);
  expect(passwordOf("''")).toBeUndefined();
});

test("without an ESPHome update platform there is no target", () => {
  expect(read("esphome:\n  name: a\nhost: {}\nota:\n  - platform: web_server\n").target).toBeUndefined();
  expect(read("esphome:\n  name: a\n  name_add_mac_suffix: true\nnrf52:\n  board: x\n")).toEqual({
    name: "porch",
    esphomeName: "a",
    platform: "nrf52",
    addsMacSuffix: true,
    sleeps: false,
  });
});

test("what cannot be used is said without its value", () => {
  expect(configurationFrom("nonsense", "a")).toMatch(/no configuration/);
  const long = `esphome:\n  name: a\nhost: {}\n${ota}    password: ${"x".repeat(300)}\n`;
  expect(configurationFrom(long, "a")).toBe("the farm cannot use its password for an upload");
});
