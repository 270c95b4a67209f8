/** `flashyard rename` against a real server and coordinator; ESPHome and the agents are stand-ins. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { renamedTarget } from "#cli/commands/rename.ts";
import { planSwap, swapFiles, withDraft } from "#cli/name-swap.ts";
import type { UploadDispatch } from "#protocol/messages.ts";
import { CliFarm, jsonLines } from "#test/support/cli-farm.ts";
import { targetAt } from "#test/support/farm-builders.ts";

let farm: CliFarm;
let folder: string;
let folders = 0;

beforeAll(async () => {
  farm = await CliFarm.start();
  await farm.fakeEsphome();
  farm.work.flashes.resolve();
});
afterAll(() => farm[Symbol.asyncDispose]());
beforeEach(async () => {
  folders += 1;
  folder = join(farm.home.path, `files-${folders}`);
  await mkdir(folder);
});

async function write(
  name: string,
  ...more: readonly string[]
): Promise<{ readonly file: string; readonly text: string }> {
  const file = join(folder, `${name}.yaml`);
  const head = ["# mine", "esphome:", `  name: ${name}`, "esp32:", "api:", "ota:", "  - platform: esphome"];
  const text = `${[...head, ...more].join("\n")}\n`;
  await writeFile(file, text);
  return { file, text };
}

test("a device is built under its new name, flashed where it is, and then the files are swapped", async () => {
  const { file, text } = await write("lamp");
  const cli = await farm.within("rename", file, "desk");
  expect([cli.err, cli.code]).toEqual([expect.stringContaining("under both names"), 0]);
  expect(cli.out).toMatch(/desk {2}upload {3}succeeded .*\n.*lamp\.yaml is .*desk\.yaml now\n$/s);
  expect(await readdir(folder)).toEqual(["desk.yaml"]);
  expect(await readFile(join(folder, "desk.yaml"), "utf8")).toBe(text.replace("lamp", "desk"));
  const upload = farm.work.given.findLast((dispatch) => dispatch.job === "upload") as UploadDispatch;
  expect(upload.target).toMatchObject({
    host: "lamp.local",
    name: "desk",
    formerName: "lamp",
    hostAfter: "desk.local",
  });
  expect(await farm.chain("desk")).toMatchObject({ kind: "rename", configuration: "desk", renamedFrom: "lamp" });
  const history = await farm.within("history", "lamp");
  expect(history.out).toMatch(/ lamp -> desk +rename +compile succeeded, upload succeeded, confirm held /);
});

test("a build that fails leaves both files as they were, and a retry says how to rename again", async () => {
  const { file, text } = await write("shelf", "# build: fail");
  const cli = await farm.within("rename", file, "board");
  expect(cli.code).toBe(1);
  expect(cli.err).toContain(`${file} was not renamed: it is as it was`);
  expect(await readdir(folder)).toEqual(["shelf.yaml"]);
  expect(await readFile(file, "utf8")).toBe(text);
  const retry = await farm.within("retry", "board");
  expect([retry.code, retry.err]).toEqual([2, expect.stringContaining("flashyard rename shelf.yaml board")]);
});

test("an upload of unknown outcome leaves the files, and says that the device may have its new name", async () => {
  farm.work.moods.set("porch.local", "silent");
  const { file } = await write("porch");
  const cli = await farm.within("rename", file, "door");
  expect(cli.code).toBe(3);
  expect(cli.err).toMatch(
    /the device may have its new name already: run `flashyard rename .*porch.yaml door` once more/,
  );
  expect(await readdir(folder)).toEqual(["porch.yaml"]);
});

test("Ctrl-C leaves the files; the same command finishes the swap", async () => {
  const { file, text } = await write("stairs", "# build: hang");
  const cli = farm.spawn("rename", file, "landing");
  await cli.prints(/running on build-1/);
  expect(await readdir(folder)).toEqual(["stairs.yaml"]);
  cli.child.kill("SIGINT");
  expect(await cli.code()).toBe(130);
  expect(cli.err).toMatch(
    /still running; .*\n.*was not renamed: run `flashyard rename .* landing` once more to finish/,
  );
  expect(await readFile(file, "utf8")).toBe(text);
  await write("stairs");
  const again = await farm.within("rename", file, "landing", "--json");
  expect([jsonLines(again.out).at(-1), again.code]).toMatchObject([
    { kind: "renamed", from: "stairs", to: "landing" },
    0,
  ]);
  expect(await readdir(folder)).toEqual(["landing.yaml"]);
});

test("names and files that cannot be swapped are refused, and nothing is left behind", async () => {
  const { file } = await write("one");
  await write("two", "# another device");
  await write("other", "nonsense: 1");
  const cases: readonly (readonly [readonly string[], string])[] = [
    [[file, "Desk"], '"Desk" is no name for a device'],
    [[file, "a".repeat(32)], "at most 31"],
    [[file, "_desk"], "is no name for a device"],
    [[file, "one"], "is called one already"],
    [[file, "two"], "two.yaml is there already"],
    [[join(folder, "none.yaml"), "three"], "there is no such file"],
    [[join(folder, "other.yaml"), "three"], "ESPHome refused the configuration"],
  ];
  const found = await Promise.all(
    cases.map(async ([args, words]) => {
      const cli = await farm.within("rename", ...args);
      return { args, code: cli.code, said: cli.err.includes(words) ? words : cli.err };
    }),
  );
  expect(found).toEqual(cases.map(([args, words]) => ({ args, code: 2, said: words })));
  expect((await readdir(folder)).toSorted()).toEqual(["one.yaml", "other.yaml", "two.yaml"]);
});

test("a swap that was interrupted is finished, one whose name was taken meanwhile is not", async () => {
  const { file, text } = await write("left");
  await writeFile(join(folder, "right.yaml"), text.replace("left", "right"));
  const swap = await planSwap(file, "right");
  expect(await swapFiles(swap)).toBeUndefined();
  expect(await readdir(folder)).toEqual(["right.yaml"]);
  const back = await planSwap(join(folder, "right.yaml"), "left");
  await writeFile(file, "something else\n");
  await expect(swapFiles(back)).rejects.toThrow("left.yaml is there already");
  expect((await readdir(folder)).toSorted()).toEqual(["left.yaml", "right.yaml"]);
});

test("a file that was changed while its device was flashed is kept beside the new one", async () => {
  const { file } = await write("old");
  const swap = await planSwap(file, "new");
  await writeFile(file, `${swap.oldText}# more\n`);
  expect(await swapFiles(swap)).toMatch(/old.yaml was changed meanwhile, so it is still there/);
  expect((await readdir(folder)).toSorted()).toEqual(["new.yaml", "old.yaml"]);
});

test("the draft is there while ESPHome reads it, out of reach of --all, and gone when that throws", async () => {
  const { file } = await write("old");
  const swap = await planSwap(file, "new");
  const seen = withDraft(swap, async () => {
    expect(await readdir(folder)).toEqual([".new.renaming.yaml", "old.yaml"]);
    throw new TypeError("interrupted");
  });
  await expect(seen).rejects.toThrow("interrupted");
  expect(await readdir(folder)).toEqual(["old.yaml"]);
});

test("an address that was named, or that does not follow the name, stays what it is", () => {
  const configured = (host: string, esphomeName: string) => ({
    name: "x",
    esphomeName,
    platform: "esp32",
    sleeps: false,
    addsMacSuffix: false,
    target: { ...targetAt(host), name: esphomeName },
  });
  const [before, after] = [configured("lamp.local", "lamp"), configured("desk.local", "desk")];
  expect(renamedTarget(before.target, before, after)).toMatchObject({ host: "lamp.local", hostAfter: "desk.local" });
  const named = renamedTarget({ ...before.target, host: "10.0.0.1" }, before, after);
  expect(named).toMatchObject({ host: "10.0.0.1", name: "desk", formerName: "lamp" });
  expect(named.hostAfter).toBeUndefined();
  const fixed = configured("10.0.0.1", "lamp");
  expect(renamedTarget(fixed.target, fixed, configured("10.0.0.1", "desk")).hostAfter).toBeUndefined();
});
