/** The whole farm over ports: command line, coordinator, a real upload agent, real esptool and avrdude, simulated chips and simavr. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { RomLoader } from "#simulator/rom-loader.ts";
import { factoryImage } from "#test/fixtures/serial/esp-image.ts";
import { RealFarm } from "#test/support/real-farm.ts";
import { buildSimduino, buildSketch, Simduino } from "#test/support/simduino.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let folder: TemporaryFolder;
let farm: RealFarm;
let chip: RomLoader;
let slow: RomLoader;
/** Of the same kind as `chip`, with another address. */
let other: RomLoader;
let board: Simduino;

const image = factoryImage("esp32c3", 100_000);

beforeAll(async () => {
  folder = await temporaryFolder();
  chip = await RomLoader.open({ chip: "esp32c3" });
  // Long enough to be cut off in the middle.
  slow = await RomLoader.open({ chip: "esp32c3", bytesPerSecond: 20_000 });
  other = await RomLoader.open({ chip: "esp32c3", mac: [0x24, 0x0a, 0xc4, 0xff, 0xff, 0xff] });
  board = await Simduino.start(await buildSimduino(folder.path), folder.path);
  const ports = Object.entries({ bench: chip.path, slow: slow.path, other: other.path, uno: board.path });
  farm = await RealFarm.start({
    variables: { FLASHYARD_PORTS: ports.map(([id, path]) => `${id}=${path}`).join(",") },
  });
  for (const name of ["one", "two", "three"]) await source(name, "firmware.bin", image);
  await source("blink", "blink.hex", await readFile(await buildSketch(folder.path)));
});
afterAll(async () => {
  await farm[Symbol.asyncDispose]();
  for (const one of [chip, slow, other, board]) await one[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

/** A folder whose build takes the file as it is. */
async function source(name: string, file: string, bytes: Buffer): Promise<void> {
  const place = join(farm.configurations, name);
  await mkdir(place);
  await writeFile(join(place, file), bytes);
  expect(await farm.run("build", name, "--artifact", file, "--", "true")).toMatchObject({ code: 0 });
}

const flash = (name: string, port: string, ...more: readonly string[]) =>
  farm.run("flash", name, "--serial", port, "--chip", "esp32c3", ...more);

test("every port of the agent is listed", async () => {
  const { out } = await farm.run("ports");
  for (const port of ["bench", "slow", "uno"]) expect(out).toMatch(new RegExp(`flash-1 +${port} `));
});

test("three flashes of one port run one after the other, and the chip holds what was built", async () => {
  const ends = await Promise.all(["one", "two", "three"].map((name) => flash(name, "bench")));
  expect(ends.map(({ code, err }) => [code, code === 0 ? "" : err])).toEqual([1, 2, 3].map(() => [0, ""]));
  expect(chip.flash(0, image.length).equals(image)).toBe(true);
  const writes = chip.events.map(({ kind }) => kind).filter((kind) => kind.startsWith("write"));
  // Nothing is begun before what was begun before is finished.
  expect(writes.filter((_, index) => index % 2 === 0).every((kind) => kind === "write-begun")).toBe(true);
  expect(writes.filter((_, index) => index % 2 === 1).every((kind) => kind === "write-finished")).toBe(true);
  const { out } = await farm.run("logs", "one.upload");
  expect(out).toMatch(/at bench is .*ESP32-C3/);
});

test("another chip than the one that is named is found out before anything is written", async () => {
  const before = chip.events.filter(({ kind }) => kind === "write-begun").length;
  const wrong = await farm.run("flash", "one", "--serial", "bench", "--chip", "esp32s3");
  expect(wrong.code).toBe(1);
  expect(wrong.out + wrong.err).toMatch(/is .*(esp32c3|ESP32-C3).*, not esp32s3|not .*esp32s3/i);
  expect(chip.events.filter(({ kind }) => kind === "write-begun")).toHaveLength(before);
});

test("another board than the known one is refused untouched, until a person says that it was replaced", async () => {
  expect((await farm.run("devices")).out).toMatch(/^two .*24:0A:C4:12:34:56/m);
  const wrong = await flash("two", "other");
  expect([wrong.code, wrong.out]).toEqual([
    1,
    expect.stringMatching(/wanted two \(24:0A:C4:12:34:56\), found 24:0A:C4:FF:FF:FF; .*`flashyard device forget two`/),
  ]);
  expect(other.events.filter(({ kind }) => kind === "write-begun")).toEqual([]);
  expect((await farm.run("device", "forget", "two")).code).toBe(0);
  expect((await flash("two", "other")).code).toBe(0);
  expect(other.flash(0, image.length).equals(image)).toBe(true);
  expect((await farm.run("devices")).out).toMatch(/^two .*24:0A:C4:FF:FF:FF/m);
});

test("an Arduino is flashed with avrdude", async () => {
  const end = await farm.run("flash", "blink", "--serial", "uno", "--avrdude", "m328p:arduino", "--baud", "57600");
  expect([end.code, end.out]).toEqual([0, expect.stringMatching(/blink +upload +succeeded/)]);
});

test("a flash for a port that is not there waits for it, and says so", async () => {
  const cli = farm.cli(["flash", "one", "--serial", "nowhere", "--chip", "esp32c3", "--detach"]);
  expect((await cli.end()).code).toBe(0);
  expect((await farm.run("explain", "one")).out).toContain("flash-1 has no port nowhere");
  expect((await farm.run("cancel", "one")).code).toBe(0);
});

describe("a flash over a port that has begun", () => {
  const begun = async (count: number) => {
    const limits = { everyMs: 20, withinMs: 60_000 };
    const seen = await poll(systemClock, limits, () =>
      slow.events.filter(({ kind }) => kind === "write-begun").length >= count ? true : undefined,
    );
    if (seen === undefined) throw new Error("nothing was written");
  };

  test("is not cancelled without force, and with it leaves a device that is shown as needing a flash", async () => {
    const cli = farm.cli(["flash", "one", "--serial", "slow", "--chip", "esp32c3"]);
    await begun(1);
    const refused = await farm.run("cancel", "one", "--no-wait");
    expect([refused.code, refused.out]).toEqual([1, expect.stringContaining("--force")]);
    const forced = await farm.run("cancel", "one", "--force");
    expect(forced.out).toMatch(/one +upload +failed .*partial image/);
    expect((await cli.end()).code).toBe(1);
    expect((await farm.run("devices")).out).toMatch(/one .*needs a flash/);
  });

  test("can be repeated, and the device is well again", async () => {
    const end = await flash("one", "slow", "--baud", "460800");
    expect([end.code, end.out]).toEqual([0, expect.stringMatching(/one +upload +succeeded/)]);
    expect(slow.flash(0, image.length).equals(image)).toBe(true);
    expect((await farm.run("devices")).out).not.toContain("needs a flash");
  });
});
