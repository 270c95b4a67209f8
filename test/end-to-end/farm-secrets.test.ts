/**
 * Nothing of a farm with identity shows the secrets of its configurations and devices: not the disks of its NATS server, not what its
 * processes are started with, not what its commands print (docs/secrets.md).
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import type { Connection } from "#bus/connection.ts";
import { type Canary, CanarySearch, keyCanary, newCanaries } from "#test/support/canaries.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import { RealFarm } from "#test/support/real-farm.ts";

/** In the devices' own configurations, and in a project that a command builds. */
const ofDevices = [
  "ota_lamp",
  "ota_fan",
  "wifi_ssid_psk",
  "mqtt_password",
  "web_token",
  "location",
  "home_key",
  "guest",
];
const ofProject = [
  "signing",
  "registry",
  "cloud_token",
  "wifi_password",
  "lan_psk",
  "pin_code",
  "license",
  "broker",
  "seed",
];
const canaries: readonly Canary[] = [
  ...newCanaries([...ofDevices, ...ofProject]),
  ...["k1", "k2", "k3"].map(keyCanary),
];
const valueOf = (name: string) => canaries.find((canary) => canary.name === name)!.value;
const installs = 5;
const builds = 80;
/** Command lines at a time. */
const atOnce = 4;

let farm: RealFarm;
const devices: RealDevice[] = [];
const search = new CanarySearch(canaries);
/** With a coordinator's rights, which hears whatever is said among people, coordinator and store. */
let ear: Connection;
let messages = 0;
/** Of those, with a sealed secret: by the first two words of what they were said on. */
const sealed = new Map<string, number>();

beforeAll(async () => {
  farm = await RealFarm.start({ compile: 2 });
  ear = await farm.connect();
  ear.subscribe(">", {
    callback: (_error, { subject, data }) => {
      messages += 1;
      const bytes = Buffer.from(data);
      search.look(subject, bytes);
      const kind = subject.split(".").slice(0, 2).join(".");
      if (bytes.includes("fys1.")) sealed.set(kind, (sealed.get(kind) ?? 0) + 1);
    },
  });
  devices.push(await farm.device("lamp"), await farm.device("fan"));
  const secrets = [...ofDevices, "k1", "k2", "k3"].map((name) => `${name}: "${valueOf(name)}"`);
  await farm.writeText("secrets.yaml", `${secrets.join("\n")}\n`);
  const project = join(farm.configurations, "project");
  await mkdir(project);
  await writeFile(join(project, "secrets.yaml"), ofProject.map((name) => `${name}: ${valueOf(name)}\n`).join(""));
  await writeFile(
    join(project, "build.sh"),
    "cat secrets.yaml\ncp secrets.yaml firmware.bin\necho $1 >> firmware.bin\n",
  );
});
afterAll(async () => {
  await ear.close();
  await farm[Symbol.asyncDispose]();
});

/** A configuration that uses them all, and whose program is another one at each edition. */
function configurationOf(device: RealDevice, edition: number): string {
  const password = `!secret ota_${device.name}`;
  const own = `ESP_LOGI("edition", "edition ${edition} of ${device.name}");`;
  const code = `${own} ESP_LOGI("secrets", "\${mqtt} \${web} \${guest} \${key}");`;
  const substitutions = [
    "mqtt: !secret mqtt_password",
    "web: !secret web_token",
    "guest: !secret guest",
    "key: !secret k1",
  ];
  return `substitutions:\n  ${substitutions.join("\n  ")}\n${device.yaml({ edition, password, code })}`;
}

async function installBoth(edition: number): Promise<void> {
  const ends = await Promise.all(
    devices.map(async (device) => {
      const file = await farm.writeText(`${device.name}.yaml`, configurationOf(device, edition));
      return farm.cli(["install", file, "--device", device.address, "--json"]).end();
    }),
  );
  for (const [index, end] of ends.entries()) {
    expect(end, end.out + end.err).toMatchObject({ code: 0 });
    search.look(`install ${index} of edition ${edition}`, Buffer.from(end.out + end.err));
  }
}

async function buildProject(number: number): Promise<void> {
  const args = ["build", "project", "--name", `project ${number}`, "--rebuild", "--artifact", "firmware.bin"];
  const end = await farm.run(...args, "--", "sh", "build.sh", String(number));
  expect(end, end.err).toMatchObject({ code: 0 });
  search.look(`build ${number}`, Buffer.from(end.out + end.err));
}

/** Arguments and environments, again and again as long as the work goes on. @returns how often */
async function watchingProcesses(work: () => Promise<void>): Promise<number> {
  let looks = 0;
  let isOver = false;
  const end = work().finally(() => (isOver = true));
  const watching = poll(systemClock, { everyMs: 500, withinMs: 1_200_000 }, () => {
    search.lookAtProcesses();
    looks += 1;
    return isOver ? true : undefined;
  });
  await Promise.all([end, watching]);
  return looks;
}

test("the search finds a canary in each form in which one could leak", () => {
  const planted = new CanarySearch(canaries);
  const [{ name, value }] = canaries as [Canary];
  const plain = Buffer.from(`x: ${value}!`);
  const forms = [
    plain,
    Buffer.from(JSON.stringify({ password: value })),
    Buffer.from(plain.toString("hex")),
    Buffer.from(plain.toString("base64url")),
    Buffer.from(Buffer.from(`{"a":${value}}`).toString("base64")),
    Buffer.from(Buffer.from(`${value} `).toString("base64")),
    Buffer.from(`password=${value}`, "utf16le"),
  ];
  for (const [index, form] of forms.entries()) {
    planted.look(`form ${index}`, form);
    expect(planted.hits.map(({ canary, where }) => `${canary} ${where}`)).toContain(`${name} form ${index}`);
  }
  planted.look("nothing", Buffer.from("nothing"));
  expect(planted.hits.some(({ where }) => where === "nothing")).toBe(false);
});

test("of 20 secrets and 100 jobs nothing is to be read anywhere", async () => {
  expect(canaries).toHaveLength(20);
  const looks = await watchingProcesses(async () => {
    for (let edition = 1; edition <= installs; edition += 1) await installBoth(edition);
    for (let number = 0; number < builds; number += atOnce) {
      await Promise.all(Array.from({ length: atOnce }, (_, index) => buildProject(number + index)));
    }
  });
  expect(looks).toBeGreaterThan(20);
  for (const device of devices) expect(await device.runs()).toBe(installs);

  await ear.flush();
  // Had no record and no job on its way been heard, nothing would be proven of them.
  for (const kind of ["$KV.fy_chains", "fy.upload"]) {
    expect(sealed.get(kind), kind).toBeGreaterThanOrEqual(devices.length * installs);
  }
  for (const command of [["ps"], ["ps", "--all"], ["history"], ["agents"], ["devices"], ["audit"], ["cache", "ls"]]) {
    const end = await farm.run(...command, "--json");
    search.look(command.join(" "), Buffer.from(end.out + end.err));
  }
  for (const reference of ["lamp", "fan", "project 0"]) {
    for (const command of ["logs", "explain"]) {
      const end = await farm.run(command, reference);
      search.look(`${command} ${reference}`, Buffer.from(end.out + end.err));
    }
  }
  // What docs/secrets.md says that a build machine keeps.
  const isKept = (path: string) => /\/agents\/build-\d\/(bundles|build)\//.test(path);
  search.lookBelow(farm.home, isKept);
  // Of what it keeps, no configuration is left in a tree.
  search.lookBelow(join(farm.home, "agents"), (path) => !/\/build\/.*\.ya?ml$/.test(path));

  expect(search.hits).toEqual([]);
  const log = await farm.run("logs", "project 0");
  expect(log.out).toContain("signing: «secret signing»");
  process.stdout.write(`looked through ${(search.bytes / 1e6).toFixed(0)} MB and ${messages} messages\n`);
  expect(messages).toBeGreaterThan(2_000);
});
