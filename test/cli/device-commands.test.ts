/** What people see and say of devices and ports, by the command line against a real server and coordinator. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import type { DeviceRecord } from "#protocol/admin.ts";
import { BootId, chainIdFrom } from "#protocol/ids.ts";
import { PortId } from "#protocol/serial.ts";
import type { Sighting } from "#protocol/sighting.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { onSerialLogWish } from "#bus/serial-log.ts";
import { sightingsOutlet } from "#bus/sightings.ts";
import { deviceTable, twinSentence } from "#cli/commands/devices.ts";
import { Pty } from "#simulator/pty.ts";
import { SerialLogService } from "#upload-agent/serial/log-service.ts";
import { PortOwners } from "#upload-agent/serial/port-owner.ts";
import { SerialPorts } from "#upload-agent/serial/ports.ts";
import { CliFarm, jsonLines } from "#test/support/cli-farm.ts";
import { agentNamed, chainNumber, configurationNamed, manifestOfBuild, targetAt } from "#test/support/farm-builders.ts";

let farm: CliFarm;

beforeAll(async () => {
  farm = await CliFarm.start();
  await farm.fakeEsphome();
  farm.work.flashes.resolve();
});
afterAll(() => farm[Symbol.asyncDispose]());

const flash = agentNamed("flash-1");
const bench = PortId.parse("bench");

test("without a port it is said what to do, and with some of them they are listed with what is plugged in", async () => {
  const none = await farm.within("ports");
  expect([none.code, none.out]).toEqual([0, expect.stringMatching(/plug a device in.*dialout.*docs\/serial\.md/)]);
  expect((await farm.within("ports", "--json")).out).toBe("");
  const id = PortId.parse("usb-Silicon_Labs_CP2102_0001-if00-port0");
  const adapter = { manufacturer: "Silicon\u001b[31m Labs", vendorId: "10c4", productId: "ea60", serialNumber: "0001" };
  await farm.plugIn({ id, path: "/dev/ttyUSB0", ...adapter }, { id: bench, path: "/dev/pts/9" });
  const some = await farm.within("ports");
  expect(some.out).toMatch(
    /^AGENT +PORT +PATH +MADE BY +USB +SERIAL NUMBER\nflash-1 +bench +\/dev\/pts\/9\nflash-1 +usb-/,
  );
  expect(some.out).toMatch(/port0 +\/dev\/ttyUSB0 +Silicon Labs +10c4:ea60 +0001\n$/);
  const [first] = jsonLines((await farm.within("ports", "--json")).out);
  expect(first).toEqual({ agent: "flash-1", id: "bench", path: "/dev/pts/9" });
});

test("the log of a port is printed without its control characters, until Ctrl-C", async () => {
  await using terminal = await Pty.open({ onBytes: () => undefined });
  const owners = new PortOwners({ folder: farm.home.path, clock: systemClock });
  await using service = new SerialLogService({
    ports: new SerialPorts({
      clock: systemClock,
      named: new Map([[bench, terminal.path]]),
      list: async () => [],
    }),
    owners,
    clock: systemClock,
    onWish: (handle) => onSerialLogWish(farm.connection, flash, handle),
  });
  await service.start();
  await farm.plugIn({ id: bench, path: terminal.path });
  const cli = farm.spawn("logs", "--serial", "bench");
  await cli.says(/reading bench at flash-1/);
  terminal.write(Buffer.from("\u001b[0;32m[I][app:100]: Running\u001b[0m\r\n"));
  await cli.prints(/^\[I\]\[app:100\]: Running\n$/);
  const owned = await owners.own(terminal.path, { signal: new AbortController().signal, waitMs: 5_000 });
  await cli.says(/given up for a flash/);
  if (owned.kind === "owned") await owned.lock[Symbol.asyncDispose]();
  await cli.says(/given up for a flash[^]*reading bench at flash-1/);
  const json = farm.spawn("logs", "--serial", terminal.path, "--agent", "flash-1", "--json");
  await json.prints(/{"kind":"opened","agent":"flash-1","port":"bench"}/);
  const other = await farm.within("logs", "--serial", "bench", "--baud", "9600");
  expect([other.code, other.err]).toEqual([1, "bench at flash-1: somebody reads it at 115200 baud\n"]);
  for (const running of [cli, json]) running.child.kill("SIGINT");
  expect([await cli.code(), await json.code()]).toEqual([0, 0]);
});

test("a port that nobody has, and words that do not go together, are refused", async () => {
  const cases: readonly (readonly [readonly string[], string])[] = [
    [["--serial", "nowhere"], 'no upload agent that is online has a port "nowhere"'],
    [["--serial", "bench", "--agent", "attic"], "attic is not online, or has not a port"],
    [[], "name a job, or a port with --serial"],
    [["lamp", "--serial", "bench"], "name a job, or a port with --serial"],
    [["lamp", "--baud", "9600"], "--agent and --baud go with --serial"],
  ];
  for (const [args, words] of cases) {
    const { code, err } = await farm.within("logs", ...args);
    expect([code, err]).toEqual([2, expect.stringContaining(words)]);
  }
});

test("a device on hold is left out of a bulk with its reason until it is released", async () => {
  const held = await farm.within("device", "hold", "boiler.yaml", "--reason", "heating season");
  expect([held.code, held.out]).toEqual([0, expect.stringMatching(/^boiler is on hold: `install --all`/)]);
  expect(held.err).toContain("boiler has never been flashed by this farm");
  expect((await farm.within("devices")).out).toMatch(
    /^CONFIGURATION +STATE +ON HOLD\nboiler +never flashed +heating season\n/,
  );
  expect(jsonLines((await farm.within("devices", "--json")).out)).toContainEqual({
    kind: "device",
    configuration: "boiler",
    isHeld: true,
    holdReason: "heating season",
  });
  await farm.configuration("boiler");
  const file = await farm.configuration("kettle");
  const all = await farm.within("install", "--all", "--folder", file.replace(/kettle\.yaml$/, ""));
  expect(all.err).toContain("boiler is on hold (heating season) and left out");
  expect(all.out).toMatch(/kettle +upload +succeeded/);
  const released = await farm.within("device", "release", "boiler");
  expect(released.out).toBe("boiler is flashed with the others again\n");
  expect((await farm.within("devices")).out).not.toContain("boiler");
});

test("what was flashed is shown with how sure that is and who did it", async () => {
  await farm.within("install", await farm.configuration("lamp"));
  const devices = await farm.within("devices");
  expect(devices.out).toMatch(/lamp +lamp.local:3232 +running +2026.10.0 .*AA:BB:CC:DD:EE:FF +flash-1 /);
  // It will be asked once more, which does not make the farm know it again.
  const early = await farm.within("device", "forget", "lamp");
  expect([early.code, early.out]).toEqual([0, "lamp is forgotten: its next flash may find another device\n"]);
  expect((await farm.within("devices")).out).not.toMatch(/^lamp /m);
});

test("a device is forgotten on demand", async () => {
  const id = chainIdFrom(Date.now(), new Uint8Array(6));
  const upload = { target: targetAt("shelf.local"), manifest: manifestOfBuild("2026-11-25 12:00:00 +0000") };
  const configuration = configurationNamed("shelf");
  await askAdmin(farm.connection, { v: 1, kind: "submit", chains: [{ id, kind: "upload", configuration, upload }] });
  const limits = { everyMs: 20, withinMs: 10_000 };
  await poll(systemClock, limits, async () => {
    const answer = await askAdmin(farm.connection, { v: 1, kind: "chains", ended: 5 });
    const { live, ended } = answer.kind === "chains" ? answer : { live: [], ended: [] };
    return live.every(({ chain }) => chain.id !== id) && ended.some((chain) => chain.id === id) ? true : undefined;
  });
  const forgotten = await farm.within("device", "forget", "shelf.yaml");
  expect([forgotten.code, forgotten.out]).toEqual([0, "shelf is forgotten: its next flash may find another device\n"]);
  expect((await farm.within("device", "forget", "shelf", "--json")).out).toBe(
    '{"kind":"device-forgotten","configuration":"shelf","wasKnown":false}\n',
  );
  for (const name of ["../lamp", "*"]) expect((await farm.within("device", "forget", name)).code).toBe(2);
});

test("two devices of one name are told below the table", async () => {
  const tell = sightingsOutlet(farm.connection);
  const seen = (mac: string): Sighting => ({
    name: "twin",
    mac,
    host: "twin.local",
    addresses: [],
    via: "mdns",
    at: 1,
  });
  tell({
    v: 1,
    agent: flash,
    boot: BootId.parse("0123456789abcdef"),
    seen: [seen("AA:BB:CC:00:00:01"), seen("AA:BB:CC:00:00:02")],
  });
  const limits = { everyMs: 20, withinMs: 10_000 };
  const out = await poll(systemClock, limits, async () => {
    const devices = await farm.within("devices");
    return devices.out.includes("twin") ? devices.out : undefined;
  });
  expect(out).toMatch(
    /two devices call themselves twin: AA:BB:CC:00:00:01, AA:BB:CC:00:00:02; twin.local may be either/,
  );
  expect(jsonLines((await farm.within("devices", "--json")).out)).toContainEqual({
    kind: "twins",
    name: "twin",
    macs: ["AA:BB:CC:00:00:01", "AA:BB:CC:00:00:02"],
  });
});

const recordOf = (over: Partial<DeviceRecord>): DeviceRecord => ({
  v: 1,
  configuration: configurationNamed("lamp"),
  chain: chainNumber(1),
  at: 0,
  state: "succeeded",
  address: "lamp.local:3232",
  ...over,
});

test.each([
  [{ level: "confirmed" }, "confirmed"],
  [{ level: "running" }, "running"],
  [{ level: "committed" }, "committed"],
  [{ level: "told" }, "told"],
  [{ state: "rolled-back" }, "rolled back"],
  [{ state: "unknown" }, "unknown"],
  [{ state: "failed" }, "failed"],
  [{ state: "failed", needsFlash: true }, "needs a flash"],
])("a record with %j is shown as %s", (over, word) => {
  const record = recordOf(over);
  const [, row] = deviceTable([{ configuration: record.configuration, record }], 0);
  expect(row).toContain(`lamp.local:3232  ${word}  `);
});

test("of twins, the one that was flashed before is the only one that is flashed", () => {
  const macs = ["AA:BB:CC:00:00:01", "AA:BB:CC:00:00:02"];
  const known = recordOf({ name: "lamp", mac: "AA:BB:CC:00:00:02" });
  expect(twinSentence({ name: "lamp", macs }, [known])).toMatch(
    /; only AA:BB:CC:00:00:02 is flashed as lamp, another one is refused; .*`flashyard device forget lamp`$/,
  );
});
