/** By which address (MAC) a device is expected over each way, and what is learned of it. */
import { describe, expect, test } from "vitest";
import type { DeviceRecord } from "#protocol/admin.ts";
import { type JobResult, SerialTarget } from "#protocol/job.ts";
import { devicesAfter, withKnownMac } from "#coordinator/core/device-records.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import { chainNumber, configurationNamed, targetAt, uploadRequest } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const said = "AA:BB:CC:00:00:01";
const ofChip = "AA:BB:CC:00:00:02";
const configuration = configurationNamed("lamp");
const record: DeviceRecord = { v: 1, configuration, chain: chainNumber(1), at: 0, state: "succeeded", address: "?" };
const network = targetAt("lamp.local");
const serial = SerialTarget.parse({
  kind: "serial",
  port: "bench",
  tool: { kind: "esptool", chip: "esp32" },
  name: "lamp",
  network,
});

describe("a device of which is known", () => {
  test.each<[string, Partial<DeviceRecord>, string | undefined, string | undefined]>([
    ["nothing", {}, undefined, undefined],
    ["what it says of itself", { mac: said, name: "lamp" }, said, said],
    ["what it says of itself under another name", { mac: said, name: "lamp-000001" }, undefined, undefined],
    ["what its chip told", { mac: ofChip, chipMac: ofChip }, ofChip, ofChip],
    ["both, which differ", { mac: said, name: "lamp", chipMac: ofChip }, said, ofChip],
  ])("%s is expected with it over the air and over a port", (_what, over, overTheAir, overAPort) => {
    const known = { ...record, ...over };
    expect(withKnownMac(network, known).mac).toBe(overTheAir);
    const target = withKnownMac(serial, known);
    expect([target.mac, target.kind === "serial" ? target.network?.mac : ""]).toEqual([overAPort, overTheAir]);
  });

  test("its address is expected with that which its configuration names", () => {
    const named = { ...network, mac: "02:00:00:00:00:09" };
    expect(withKnownMac(named, { ...record, mac: said, name: "lamp" })).toEqual(named);
  });

  test("that it is one of many is expected with no address", () => {
    const { network: _, ...bare } = serial;
    const many = { ...bare, isOneOfMany: true };
    expect(withKnownMac(many, { ...record, mac: ofChip, chipMac: ofChip })).toEqual(many);
  });
});

describe("a flash over a port", () => {
  const flashOf = (result: Partial<Extract<JobResult, { kind: "flashed" }>>, over: Partial<SerialTarget> = {}) => {
    const farm = new TestFarm();
    const asked = uploadRequest(1, { configuration: "lamp" });
    farm.submit({ ...asked, upload: { ...asked.upload, target: { ...serial, ...over } } });
    farm.uploadAgent("pi", { ports: ["bench"] });
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.report(1, "upload", { kind: "flashed", level: "committed", wrote: true, flashMs: 1, ...result });
    return farm.chain(1);
  };
  const after = (before: DeviceRecord | undefined, ...flash: Parameters<typeof flashOf>) => {
    const devices = new Map(before === undefined ? [] : [[configuration, before]]);
    return devicesAfter({ ...noKnowledge, devices }, [flashOf(...flash)]).changed.get(configuration);
  };
  const report = { name: "lamp", mac: said, compilationTime: "then", esphomeVersion: "2026.10.0" };

  test("makes the address known that the chip told", () => {
    expect(after(undefined, { chipMac: ofChip })).toMatchObject({ mac: ofChip, chipMac: ofChip });
  });

  test("prefers what the device says of itself", () => {
    expect(after(undefined, { chipMac: ofChip, report })).toMatchObject({ mac: said, chipMac: ofChip });
    expect(after({ ...record, mac: said, name: "lamp" }, { chipMac: ofChip })).toMatchObject({
      mac: said,
      chipMac: ofChip,
    });
  });

  test("of one of many makes no address known", () => {
    const known = after(undefined, { chipMac: ofChip }, { isOneOfMany: true });
    expect(known).toMatchObject({ state: "succeeded" });
    expect([known?.mac, known?.chipMac]).toEqual([undefined, undefined]);
  });
});
