/** What a device is said to run, and waiting for it to run the new build. */
import { describe, expect, it } from "vitest";
import { systemClock } from "#actor/clock.ts";
import type { EsphomeBuild } from "#protocol/artifact.ts";
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { SimulatedDevice } from "#test/fixtures/ota-device.ts";
import { SimulatedApi } from "#test/fixtures/native-api.ts";
import { buildAt, expectedOf, flash, newBuild, oldBuild, targetOf } from "#test/support/simulated-flash.ts";
import { probe, waitUntilRunning } from "#upload-agent/probe.ts";

const mac = "02:00:00:AB:CD:EF";
const running = (build = newBuild, over: Partial<DeviceReport> = {}): DeviceReport => ({ ...build, mac, ...over });
const never = new AbortController().signal;

async function probed(
  report: DeviceReport | undefined,
  over: Partial<OtaTarget> = {},
  expected = expectedOf(newBuild),
) {
  await using api = new SimulatedApi(() => report);
  const target: OtaTarget = {
    kind: "ota",
    host: "127.0.0.1",
    port: 1,
    encrypted: false,
    name: "lamp",
    api: { port: await api.listen() },
    ...over,
  };
  return await probe(target, expected, { signal: never });
}

describe("a probe", () => {
  it.each<[string, DeviceReport, Partial<OtaTarget>, EsphomeBuild, string]>([
    ["runs the build", running(), {}, expectedOf(newBuild), "new"],
    ["runs the build and has the known address", running(), { mac: "02:00:00:ab:cd:ef" }, expectedOf(newBuild), "new"],
    ["runs another build", running(oldBuild), {}, expectedOf(newBuild), "old"],
    ["has another name", running(buildAt(2, "fan")), {}, expectedOf(newBuild), "other"],
    ["has another address", running(), { mac: "02:00:00:00:00:99" }, expectedOf(newBuild), "other"],
    [
      "has another address and the old build",
      running(oldBuild),
      { mac: "02:00:00:00:00:99" },
      expectedOf(newBuild),
      "other",
    ],
    ["adds its address to its name", running(buildAt(2, "lamp-abcdef")), {}, expectedOf(newBuild), "new"],
    ["adds another address to its name", running(buildAt(2, "lamp-012345")), {}, expectedOf(newBuild), "other"],
    ["still has the name it loses", running(oldBuild), {}, expectedOf(buildAt(2, "light")), "old"],
    ["has got its new name", running(buildAt(2, "light")), {}, expectedOf(buildAt(2, "light")), "new"],
  ])("of a device that %s", async (_name, report, over, expected, answer) => {
    expect(await probed(report, over, expected)).toEqual({ answer, report });
  });

  it("cannot know of a device without a native API or with an encrypted one", async () => {
    await using api = new SimulatedApi(() => running(), "encrypted");
    const port = await api.listen();
    const target: OtaTarget = { kind: "ota", host: "127.0.0.1", port: 1, encrypted: false, name: "lamp" };
    const ask = (one: OtaTarget) => probe(one, expectedOf(newBuild), { signal: never });
    expect(await ask(target)).toMatchObject({ answer: "unknowable" });
    expect(await ask({ ...target, api: { port } })).toMatchObject({ answer: "unknowable" });
    expect(await ask({ ...target, api: { port, encryptionKey: "x" } })).toMatchObject({ answer: "unknowable" });
  });

  it("reaches nobody while the device restarts", async () => {
    expect(await probed(undefined)).toMatchObject({ answer: "unreachable", detail: expect.stringMatching(/./) });
  });
});

describe("waiting for a device to run the new build", () => {
  const wait = (target: OtaTarget, over: Partial<Parameters<typeof waitUntilRunning>[2]> = {}) =>
    waitUntilRunning(target, expectedOf(newBuild), {
      withinMs: 10_000,
      everyMs: 10,
      clock: systemClock,
      signal: never,
      ...over,
    });
  const targetAt = (port: number): OtaTarget => ({
    kind: "ota",
    host: "127.0.0.1",
    port: 1,
    encrypted: false,
    name: "lamp",
    api: { port },
  });

  it("ends as soon as it does, through the old build and a restart", async () => {
    const seen = [running(oldBuild), undefined, undefined, running()];
    await using api = new SimulatedApi(() => (seen.length > 1 ? seen.shift() : seen[0]));
    expect(await wait(targetAt(await api.listen()))).toEqual({ answer: "new", report: running() });
  });

  it("says after a flash that the new build runs", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const target = targetOf(device);
    expect(await probe(target, expectedOf(newBuild), { signal: never })).toMatchObject({ answer: "old" });
    await flash(target);
    expect(await wait(target)).toMatchObject({ answer: "new" });
  });

  it("says that the old build came back", async () => {
    await using api = new SimulatedApi(() => running(oldBuild));
    expect(await wait(targetAt(await api.listen()), { withinMs: 100 })).toMatchObject({ answer: "old" });
  });

  it("says that nobody came back", async () => {
    await using api = new SimulatedApi(() => undefined);
    expect(await wait(targetAt(await api.listen()), { withinMs: 100 })).toMatchObject({ answer: "unreachable" });
  });

  it("does not wait for what can never be known", async () => {
    await using api = new SimulatedApi(() => running(), "encrypted");
    expect(await wait(targetAt(await api.listen()), { withinMs: 60_000 })).toMatchObject({ answer: "unknowable" });
    expect(api.asked).toBe(1);
  });

  it("ends when it is cancelled, with what was seen before", async () => {
    const cancel = new AbortController();
    let asked = 0;
    await using api = new SimulatedApi(() => {
      if (++asked === 3) cancel.abort();
      return running(oldBuild);
    });
    const seen = await wait(targetAt(await api.listen()), { withinMs: 60_000, signal: cancel.signal });
    expect(seen).toEqual({ answer: "old", report: running(oldBuild) });
  });
});
