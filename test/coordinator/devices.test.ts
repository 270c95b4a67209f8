/** By which address a device is known, and until when, through the real coordinator and a real nats-server. */
import { expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import type { JobResult, UploadTarget } from "#protocol/job.ts";
import { SerialTarget } from "#protocol/job.ts";
import {
  chainNumber,
  configurationNamed,
  flashed,
  manifestOfBuild,
  targetAt,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import type { HandedJob, ScriptedAgent } from "#test/support/scripted-agent.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

const configuration = configurationNamed("lamp");
const first = "AA:BB:CC:00:00:01";
const second = "AA:BB:CC:00:00:02";
const flashedOn = (mac: string): JobResult => ({
  ...flashed,
  kind: "flashed",
  level: "running",
  wrote: true,
  flashMs: 1_000,
  report: { name: "lamp", mac, compilationTime: "then", esphomeVersion: "2026.10.0" },
});

/** With a confirmation that is an hour away, so that its chain stays live. */
function request(n: number, target: UploadTarget = { ...targetAt("lamp.local"), api: { port: 6053 } }): ChainRequest {
  const upload = { target, manifest: manifestOfBuild(`build ${n}`), confirmAfterMs: 3_600_000 };
  return { ...uploadRequest(n, { configuration: "lamp" }), upload };
}

const atPort = SerialTarget.parse({
  kind: "serial",
  port: "bench",
  tool: { kind: "esptool", chip: "esp32" },
  name: "lamp",
});

async function begun(flasher: ScriptedAgent): Promise<HandedJob> {
  const job = await flasher.next();
  await job.claim();
  await job.claimFlash();
  return job;
}

const macIn = ({ dispatch }: HandedJob) => (dispatch.job === "upload" ? dispatch.target.mac : "no upload");
const known = async (farm: ServedFarm) => (await farm.ask("devices", { v: 1, kind: "devices" })).devices;
const forget = (farm: ServedFarm) => farm.ask("device-forgotten", { v: 1, kind: "forget-device", configuration });

test("a device that is forgotten before its last flash is confirmed stays forgotten, also after a restart", async () => {
  await using farm = await ServedFarm.start();
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(request(1));
  await (await begun(flasher)).report(flashedOn(first));
  await farm.until(chainNumber(1), "upload", "succeeded");
  expect(await known(farm)).toMatchObject([{ mac: first }]);
  farm.clock.jump(1_000);
  expect(await forget(farm)).toMatchObject({ wasKnown: true });
  expect(await known(farm)).toEqual([]);
  await farm.restartCoordinator();
  expect(await known(farm)).toEqual([]);
  await farm.cancel("lamp");
  await farm.untilArchived();
  expect(await known(farm)).toEqual([]);
  await farm.submit(request(2));
  const next = await begun(flasher);
  expect(macIn(next)).toBeUndefined();
  await next.report(flashedOn(second));
  await farm.until(chainNumber(2), "upload", "succeeded");
  expect(await known(farm)).toMatchObject([{ mac: second }]);
});

test("a flash that was under way as its device was forgotten does not make it known again", async () => {
  await using farm = await ServedFarm.start();
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(request(1));
  const job = await begun(flasher);
  farm.clock.jump(1_000);
  expect(await forget(farm)).toMatchObject({ wasKnown: false });
  await job.report(flashedOn(first));
  await farm.until(chainNumber(1), "upload", "succeeded");
  expect(await known(farm)).toEqual([]);
});

test("forgetting a device leaves it on hold, and a hold leaves it forgotten", async () => {
  await using farm = await ServedFarm.start();
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(request(1));
  await (await begun(flasher)).report(flashedOn(first));
  await farm.until(chainNumber(1), "upload", "succeeded");
  const hold = { v: 1, kind: "hold-device", configuration, isHeld: true, reason: "winter" } as const;
  await farm.ask("device-noted", hold);
  farm.clock.jump(1_000);
  await forget(farm);
  expect(await farm.ask("devices", { v: 1, kind: "devices" })).toMatchObject({
    devices: [],
    notes: [{ reason: "winter" }],
  });
  await farm.ask("device-noted", { ...hold, isHeld: false });
  expect(await known(farm)).toEqual([]);
});

test("a chip that was flashed over a port is expected there, and over the air, from then on", async () => {
  await using farm = await ServedFarm.start();
  const flasher = await farm.agent("upload", "flasher", { ports: ["bench"] });
  await farm.submit(request(1, atPort));
  const job = await begun(flasher);
  expect(macIn(job)).toBeUndefined();
  await job.report({ kind: "flashed", level: "committed", wrote: true, flashMs: 1, chipMac: first });
  await farm.untilArchived();
  expect(await known(farm)).toMatchObject([{ mac: first, chipMac: first }]);
  await farm.submit(request(2, atPort));
  const again = await begun(flasher);
  expect(macIn(again)).toBe(first);
  await again.report({ kind: "flashed", level: "committed", wrote: true, flashMs: 1, chipMac: first });
  await farm.untilArchived();
  await farm.submit(request(3));
  expect(macIn(await begun(flasher))).toBe(first);
});
