import { expect, test } from "vitest";
import {
  automaticSlots,
  readAgentSettings,
  readCompileSettings,
  readUploadSettings,
  thisMachine,
} from "#actor/agent-settings.ts";

const gigabyte = 1e9;
const slots = (memoryGigabytes: number, processors: number) =>
  automaticSlots("compile", { memoryBytes: memoryGigabytes * gigabyte, processors });
const small = { memoryBytes: 4 * gigabyte, processors: 4 };
const refusalOf = (read: () => unknown) => {
  try {
    return read();
  } catch (error) {
    return error;
  }
};

test("builds have three gigabytes each beyond the first, and two processors", () => {
  expect([1, 4, 6.9, 7, 16, 32, 64].map((gigabytes) => slots(gigabytes, 64))).toEqual([1, 1, 1, 2, 5, 10, 21]);
  expect([1, 2, 3, 4, 8].map((processors) => slots(64, processors))).toEqual([1, 1, 1, 2, 4]);
  expect(slots(10_000, 2_000)).toBe(256);
});

test("an agent takes as many jobs as it is told, and finds the number itself otherwise", () => {
  const large = { memoryBytes: 32 * gigabyte, processors: 8 };
  expect(readAgentSettings({ FLASHYARD_SLOTS: "7" }, "compile", small).slots).toBe(7);
  expect(readAgentSettings({}, "compile", small).slots).toBe(1);
  for (const env of [{}, { FLASHYARD_SLOTS: "auto" }]) {
    expect(readAgentSettings(env, "compile", large).slots).toBe(4);
    expect(readAgentSettings(env, "upload", large).slots).toBe(1);
  }
  const { memoryBytes, processors } = thisMachine();
  expect(memoryBytes).toBeGreaterThan(0);
  expect(processors).toBeGreaterThan(0);
});

test("labels and pins are lists with commas, and nothing is pinned by default", () => {
  expect(readAgentSettings({ FLASHYARD_LABELS: "fast, attic,,fast" }, "upload", small).labels).toEqual([
    "fast",
    "attic",
  ]);
  expect(readAgentSettings({}, "compile", small).labels).toEqual([]);
  const sandbox = {
    level: "none",
    processesMax: 512,
    diskBytesMax: 10_000_000_000,
    hasNetwork: true,
    sharesTools: true,
    readable: [],
    buildUser: "flashyard-build",
    engine: "docker",
  };
  expect(readCompileSettings({})).toEqual({ environmentsMax: 5, sandbox });
  const env = {
    FLASHYARD_ESPHOME_VERSIONS: "2026.10.0,2026.9.1b2",
    FLASHYARD_PLATFORMS: "esp32,host",
    FLASHYARD_TREES_GB: "0.5",
    FLASHYARD_ENVIRONMENTS: "2",
  };
  expect(readCompileSettings(env)).toEqual({
    pinnedVersions: ["2026.10.0", "2026.9.1b2"],
    pinnedPlatforms: ["esp32", "host"],
    treesBytesMax: 500_000_000,
    environmentsMax: 2,
    sandbox,
  });
});

test("a bad value is refused with the variable, the value and the rule", () => {
  const many = Array.from({ length: 33 }, (_, index) => `label${index}`).join(",");
  const refusals: readonly (readonly [string, string, string])[] = [
    ["FLASHYARD_AGENT", "Attic", "an agent is named with"],
    ["FLASHYARD_SLOTS", "0", "slots are a number from 1 to 256, or auto"],
    ["FLASHYARD_SLOTS", "many", "slots are a number from 1 to 256, or auto"],
    ["FLASHYARD_LABELS", "fast,Attic", "a label has a-z"],
    ["FLASHYARD_LABELS", many, "at most 32 can be named"],
    ["FLASHYARD_ESPHOME_VERSIONS", "2026.10", "an ESPHome version looks like 2026.10.0"],
    ["FLASHYARD_PLATFORMS", "ESP32", "a platform has a-z"],
    ["FLASHYARD_TREES_GB", "0", "more than 0"],
    ["FLASHYARD_TREES_GB", "50G", "more than 0"],
    ["FLASHYARD_SANDBOX", "jail", "one of none, auto, user, bubblewrap, container"],
    ["FLASHYARD_SANDBOX_ENGINE", "lxc", "one of docker, podman"],
    ["FLASHYARD_SANDBOX_IMAGE", "--privileged", "an image is named as"],
    ["FLASHYARD_BUILD_USER", "-x", "a user is named"],
    ["FLASHYARD_BUILD_USER", "1000", "a user is named, or given as uid:gid"],
    ["FLASHYARD_BUILD_MEMORY_GB", "2G", "a number of gigabytes"],
    ["FLASHYARD_BUILD_DISK_GB", "0", "a number of gigabytes"],
    ["FLASHYARD_BUILD_PROCESSES", "3", "from 10 to 99999"],
    ["FLASHYARD_SANDBOX_NETWORK", "no", "one of on, off"],
    ["FLASHYARD_SANDBOX_TOOLS", "mine", "one of shared, own"],
    ["FLASHYARD_SANDBOX_READS", "opt/tools", "a folder is named from the root"],
    ["FLASHYARD_ENVIRONMENTS", "0", "a number from 1 to 99"],
  ];
  for (const [variable, value, rule] of refusals) {
    const env = { [variable]: value };
    const refusal = refusalOf(() => [readAgentSettings(env, "compile", small), readCompileSettings(env)]);
    expect(refusal).toMatchObject({ name: "UsageError", code: "bad-setting" });
    expect(String(refusal)).toContain(`${variable} is ${JSON.stringify(value)}: `);
    expect(String(refusal)).toContain(rule);
  }
});

test("devices are looked for by multicast DNS, unless the owner says no or where", () => {
  const of = (mdns?: string) => readUploadSettings(mdns === undefined ? {} : { FLASHYARD_MDNS: mdns }).mdns;
  expect([of(), of("on"), of("off")]).toEqual(["on", "on", "off"]);
  expect(of("192.168.1.5, 10.0.20.5")).toEqual(["192.168.1.5", "10.0.20.5"]);
  expect(refusalOf(() => of("eth0"))).toMatchObject({
    code: "bad-setting",
    message: expect.stringContaining('FLASHYARD_MDNS is "eth0": multicast DNS is on, off, or for IPv4 addresses'),
  });
});
