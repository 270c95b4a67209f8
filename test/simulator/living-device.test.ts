/** A simulated device from outside: what it says of itself after updates, restarts and sleep. */
import { afterEach, describe, expect, test } from "vitest";
import { type Clock, poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { imageOf } from "#simulator/device-image.ts";
import { hostBuildIn } from "#simulator/host-image.ts";
import { type DeviceEvent, LivingDevice, type LivingDeviceOptions } from "#simulator/living-device.ts";
import { faultNames, namedFaults } from "#simulator/named-faults.ts";
import { hostConfiguration, macOf, originOf } from "#simulator/simulated-configuration.ts";
import { askDevice } from "#upload-agent/native-api.ts";
import { flash, newBuild, oldBuild } from "#test/support/simulated-flash.ts";

let device: LivingDevice | undefined;
let events: DeviceEvent[] = [];
let target: OtaTarget;

afterEach(async () => {
  await device?.stop();
  device = undefined;
});

/** Hours pass in a moment for whom this is the clock, and no time at all once it is stopped. */
const hasty: Clock = { ...systemClock, pause: (_ms, signal) => systemClock.pause(20, signal) };

async function start(over: Partial<LivingDeviceOptions> = {}): Promise<void> {
  events = [];
  const [otaPort, apiPort] = [await freePort(), await freePort()];
  target = {
    kind: "ota",
    host: "127.0.0.1",
    port: otaPort,
    encrypted: false,
    name: oldBuild.name,
    api: { port: apiPort },
  };
  device = await LivingDevice.start({
    build: oldBuild,
    mac: macOf("lamp"),
    otaPort,
    apiPort,
    clock: hasty,
    onEvent: (event) => events.push(event),
    ...over,
  });
}

async function buildItRuns(): Promise<string | undefined> {
  const answer = await askDevice(target, { signal: new AbortController().signal, timeoutMs: 500 });
  return answer.kind === "answered" ? answer.report.compilationTime : undefined;
}

async function until<T>(attempt: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const found = await poll(systemClock, { everyMs: 5, withinMs: 10_000 }, attempt);
  if (found === undefined) throw new Error(`it never came to that: ${JSON.stringify(events)}`);
  return found;
}

const untilTold = (kind: DeviceEvent["kind"]) => until(() => events.find((event) => event.kind === kind));
const untilItRuns = (build: string) => until(async () => ((await buildItRuns()) === build ? true : undefined));

test("it runs what it was flashed with once it has restarted, at the same ports", async () => {
  await start();
  expect(await buildItRuns()).toBe(oldBuild.compilationTime);
  expect((await flash(target)).result).toMatchObject({ ok: true });
  await untilTold("rebooted");
  await untilItRuns(newBuild.compilationTime);
  expect(events).toEqual([
    { kind: "flashed", bytes: 100_000, build: newBuild },
    { kind: "rebooted", build: newBuild },
  ]);
});

test("it takes a program of ESPHome's host platform, and no other program", async () => {
  await start();
  const program = programOf("lamp");
  expect((await flash(target, { image: program })).result).toMatchObject({ ok: true });
  await untilItRuns("2026-11-26 02:52:36 +0000");
  const other = await flash(target, { image: programOf("fan") });
  expect(other.result).toMatchObject({ ok: false, failure: { kind: "device-refused" } });
});

test("it sleeps and wakes in turns, and answers only while it is awake", async () => {
  await start({ sleep: { awakeMs: 1, asleepMs: 1 } });
  await untilTold("awake");
  expect(events.slice(0, 2)).toEqual([{ kind: "asleep" }, { kind: "awake" }]);
  await untilItRuns(oldBuild.compilationTime);
});

test("one that rolls back runs the new build for a while, and then the one before", async () => {
  await start({ afterwards: "rolls-back" });
  await flash(target);
  await untilTold("rolled-back");
  await untilItRuns(oldBuild.compilationTime);
  expect(events.map(({ kind }) => kind)).toEqual(["flashed", "rebooted", "rolled-back"]);
});

test("one that dies is never there again", async () => {
  await start({ afterwards: "dies" });
  await flash(target);
  await untilTold("gone");
  expect(await buildItRuns()).toBeUndefined();
  await device?.stop();
});

test("after its end nobody listens on its ports, also when it is stopped twice and while it restarts", async () => {
  await start();
  await flash(target);
  await Promise.all([device?.stop(), device?.stop()]);
  expect(await buildItRuns()).toBeUndefined();
});

const outcomes: Readonly<Partial<Record<string, string>>> = {
  "cut-off": "upload-interrupted",
  "falls-silent": "deadline",
  "no-space": "device-refused",
  "bad-flash": "device-refused",
  "no-thanks": "upload-interrupted",
};

test.each(faultNames.filter((name) => outcomes[name] !== undefined))("a device with the fault %s", async (name) => {
  const { fault } = namedFaults[name] as { readonly fault?: LivingDeviceOptions["fault"] };
  await start(fault === undefined ? {} : { fault });
  const { result } = await flash(target, { image: imageOf(newBuild, 200_000) });
  expect(result).toMatchObject({ ok: false, failure: { kind: outcomes[name] } });
  if (name === "no-thanks") return void (await untilItRuns(newBuild.compilationTime));
  await until(() => (events.length > 0 ? true : undefined));
  expect(events[0]).toMatchObject({ kind: "broken-off", announcedBytes: 200_000 });
});

function programOf(name: string, ...more: readonly string[]): Buffer {
  const texts = [
    "<unknown>",
    name,
    "2026-11-26 02:52:36 +0000",
    "ESPHome version 2026.10.0 compiled on %s",
    ...more,
    "",
  ];
  return Buffer.from(`\u007fELF\u0002${texts.join("\0")}`, "latin1");
}

describe("a program of the host platform", () => {
  test("says when and with what it was built", () => {
    expect(hostBuildIn(programOf("lamp"), "lamp")).toEqual({
      name: "lamp",
      compilationTime: "2026-11-26 02:52:36 +0000",
      esphomeVersion: "2026.10.0",
    });
  });

  test("is none when it is another device's, has two build times, or is no program", () => {
    expect(hostBuildIn(programOf("lamp"), "fan")).toBeUndefined();
    expect(hostBuildIn(programOf("lamp", "2026-11-26 02:52:37 +0000"), "lamp")).toBeUndefined();
    expect(hostBuildIn(programOf("lamp").subarray(1), "lamp")).toBeUndefined();
  });
});

test("a configuration is known for one of the same device, of another one, or of a stranger", () => {
  const written = hostConfiguration({ name: "lamp", otaPort: 1, apiPort: 2 });
  const other = hostConfiguration({ name: "lamp", otaPort: 1, apiPort: 2, password: "p" });
  expect(originOf(written.replace("42", "43"), written)).toBe("ours");
  expect(originOf(other, written)).toBe("older");
  expect(originOf("esphome:\n  name: lamp\n", written)).toBe("stranger");
});
