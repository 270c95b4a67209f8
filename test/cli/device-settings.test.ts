import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { settingsOf } from "#cli/device-settings.ts";
import { routeFrom } from "#cli/preparation.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
beforeAll(async () => {
  home = await temporaryFolder();
});
afterAll(() => home[Symbol.asyncDispose]());

let folders = 0;

/** A folder with a configuration, and with settings of its own when they are given. */
async function write(text: string, ofFolder?: string): Promise<string> {
  folders += 1;
  const folder = join(home.path, String(folders));
  await mkdir(folder);
  if (ofFolder !== undefined) await writeFile(join(folder, "flashyard.yaml"), ofFolder);
  const file = join(folder, "lamp.yaml");
  await writeFile(file, text);
  return file;
}

test("a file says for itself what counts more than what its folder says", async () => {
  const file = await write(
    ".flashyard:\n  esphome: 2026.10\n  build-labels: fast\n  medium: thread:hall\nesphome:\n  name: !secret lamp\n",
    "esphome: newest\nflash-on: attic-pi\nsandbox: bubblewrap\n",
  );
  expect(await settingsOf(file)).toEqual({
    esphome: "2026.10",
    "build-labels": ["fast"],
    medium: { kind: "thread", segment: "hall" },
    "flash-on": "attic-pi",
    sandbox: "bubblewrap",
  });
  expect(routeFrom(await settingsOf(file), {})).toEqual({ route: { labels: ["fast"], sandbox: "bubblewrap" } });
});

test("a file without settings, one that ESPHome will refuse, and one that is not there have none", async () => {
  expect(await settingsOf(await write("esphome:\n  name: lamp\n"))).toEqual({});
  expect(await settingsOf(await write("esphome: [\n"))).toEqual({});
  expect(await settingsOf(join(home.path, "nothing.yaml"))).toEqual({});
});

test.each([
  [
    "an unknown key",
    ".flashyard:\n  build_on: x\n",
    /lamp.yaml: .flashyard: there is no setting build_on; there are esphome, /,
  ],
  [
    "a version that is none",
    ".flashyard:\n  esphome: latest\n",
    /`esphome` cannot be used: a release looks like 2026.10.0/,
  ],
  [
    "a medium that is none",
    ".flashyard:\n  medium: carrier-pigeon\n",
    /`medium` cannot be used: wifi, ethernet, thread or/,
  ],
  ["a name that no agent can have", ".flashyard:\n  flash-on: Attic Pi\n", /`flash-on` cannot be used/],
  [
    "a rate that a flasher would not get",
    ".flashyard:\n  flasher: picotool\n  baud: 921600\n",
    /`baud` cannot be used: with `flasher:`/,
  ],
  ["text instead of settings", ".flashyard: yes please\n", /.flashyard: it cannot be used/],
])("%s is refused with the file and the key", async (_name, text, message) => {
  await expect(settingsOf(await write(text))).rejects.toThrow(message);
});

test("what is wrong in the folder's file is said of that file", async () => {
  await expect(settingsOf(await write("esphome:\n", "colour: red\n"))).rejects.toThrow(
    /flashyard.yaml: there is no setting colour/,
  );
});
