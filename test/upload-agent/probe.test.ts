/** What a device is said to run, and waiting for it to run the new build. */
import { setImmediate as nextTurnLater } from "node:timers";
import { describe, expect, it } from "vitest";
import { systemClock } from "#actor/clock.ts";
import type { EsphomeBuild } from "#protocol/artifact.ts";
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { SimulatedDevice } from "#simulator/device.ts";
import { type ApiMode, SimulatedApi } from "#simulator/native-api.ts";
import {
  buildAt,
  expectedOf,
  flash,
  newBuild,
  oldBuild,
  otaKey,
  otherKey,
  targetOf,
} from "#test/support/simulated-flash.ts";
import { probe, probeAfter, probeBefore, waitUntilRunning } from "#upload-agent/probe.ts";

const mac = "02:00:00:AB:CD:EF";
const running = (build = newBuild, over: Partial<DeviceReport> = {}): DeviceReport => ({ ...build, mac, ...over });
const never = new AbortController().signal;
const nextTurn = () => new Promise<void>((resolve) => void nextTurnLater(resolve));
const lightBuild = buildAt(2, "light");
const renamed = { name: "light", formerName: "lamp" };

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
    ["is renamed and has its former name", running(oldBuild), renamed, expectedOf(lightBuild), "old"],
    ["is renamed and runs the new build", running(lightBuild), renamed, expectedOf(lightBuild), "new"],
    ["is renamed and has another build", running(buildAt(1, "light")), renamed, expectedOf(lightBuild), "old"],
    ["is renamed and adds its address", running(buildAt(1, "lamp-abcdef")), renamed, expectedOf(lightBuild), "old"],
    ["is renamed and is another one", running(buildAt(1, "fan")), renamed, expectedOf(lightBuild), "other"],
    [
      "has the former name and another address",
      running(oldBuild),
      { ...renamed, mac: "02:00:00:00:00:99" },
      expectedOf(lightBuild),
      "other",
    ],
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

  it("knows of a device with an encrypted API whose key it has", async () => {
    await using api = new SimulatedApi(() => running(), "plain", otaKey);
    const keyed = (encryptionKey: string, port: number) => ({ ...basic, api: { port, encryptionKey } });
    const basic: OtaTarget = { kind: "ota", host: "127.0.0.1", port: 1, encrypted: false, name: "lamp" };
    const port = await api.listen();
    const ask = (key: string) => probe(keyed(key, port), expectedOf(newBuild), { signal: never });
    expect(await ask(otaKey)).toEqual({ answer: "new", report: running() });
    expect(await ask(otherKey)).toMatchObject({
      answer: "unknowable",
      detail: "the API's encryption key is wrong",
    });
  });

  it.each<[string, DeviceReport, Partial<OtaTarget>, string]>([
    ["the name that is wanted", running(oldBuild), {}, "unknowable"],
    ["that name and its address", running(buildAt(1, "lamp-abcdef")), {}, "unknowable"],
    ["the former name", running(oldBuild), renamed, "unknowable"],
    ["another name", running(buildAt(1, "fan")), {}, "other"],
    ["another address", running(oldBuild), { mac: "02:00:00:00:00:99" }, "other"],
    ["no address, as of before 2025.4", { ...running(buildAt(1, "lamp-abcdef")), mac: "" }, {}, "unknowable"],
    ["neither", { ...running(buildAt(1, "fan")), mac: "" }, {}, "other"],
  ])(
    "takes the word of a device that refuses the key only against it: it has %s",
    async (_name, said, over, answer) => {
      await using api = new SimulatedApi(() => said, "plain", otherKey);
      const target: OtaTarget = { kind: "ota", host: "127.0.0.1", port: 1, encrypted: false, name: "lamp", ...over };
      const encrypted = { ...target, api: { port: await api.listen(), encryptionKey: otaKey } };
      const seen = await probe(encrypted, expectedOf(over === renamed ? lightBuild : newBuild), { signal: never });
      expect(seen).toMatchObject({ answer, detail: expect.stringContaining("the API's encryption key is wrong") });
      expect(seen).not.toHaveProperty("report");
    },
  );

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

  it("waits for the key that the new build brings", async () => {
    const encryptionKey = otaKey;
    await using plain = new SimulatedApi(() => running(oldBuild));
    await using keyed = new SimulatedApi(() => running(), "plain", encryptionKey);
    const target = targetAt(await plain.listen());
    const waiting = wait({ ...target, api: { port: target.api!.port, encryptionKey } });
    while (plain.asked < 2) await nextTurn();
    await plain[Symbol.asyncDispose]();
    await keyed.listen("127.0.0.1", target.api!.port);
    expect(await waiting).toMatchObject({ answer: "new" });
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

describe("a renamed device", () => {
  const [before, after] = ["127.0.0.1", "127.0.0.2"];
  const light = expectedOf(lightBuild);

  /** What answers at its former address and at the one of its new name; `undefined` hangs up on everybody. */
  async function at(former: DeviceReport | undefined, moved: DeviceReport | undefined, modes: Partial<Modes> = {}) {
    const here = new SimulatedApi(() => former, modes.here ?? "plain");
    const there = new SimulatedApi(() => moved, modes.there ?? "plain");
    const port = await here.listen(before);
    await there.listen(after, port);
    const target: OtaTarget = {
      kind: "ota",
      host: before,
      port: 1,
      encrypted: false,
      hostAfter: after,
      ...renamed,
      api: { port },
    };
    return {
      target,
      here,
      there,
      [Symbol.asyncDispose]: async () => {
        await here[Symbol.asyncDispose]();
        await there[Symbol.asyncDispose]();
      },
    };
  }
  interface Modes {
    readonly here: ApiMode;
    readonly there: ApiMode;
  }

  it.each<[string, DeviceReport | undefined, DeviceReport | undefined, string]>([
    ["has moved to its new name's address", undefined, running(lightBuild), "new"],
    ["has kept its address", running(lightBuild), undefined, "new"],
    ["has not taken the build", running(oldBuild), undefined, "old"],
    [
      "has not taken the build and another one has its new address",
      running(oldBuild),
      running(buildAt(1, "fan")),
      "old",
    ],
    ["has moved and another one has its address", running(buildAt(1, "fan")), running(lightBuild), "new"],
    ["is gone and another one has its address", running(buildAt(1, "fan")), undefined, "other"],
    ["answers nowhere", undefined, undefined, "unreachable"],
  ])("is asked at both addresses after a flash: it %s", async (_name, former, moved, answer) => {
    await using device = await at(former, moved);
    expect(await probeAfter(device.target, light, { signal: never })).toMatchObject({ answer });
  });

  it("is not waited for at the address where nobody answers", async () => {
    await using device = await at(running(lightBuild), running(), { there: "silent" });
    const seen = await probeAfter(device.target, light, { signal: never, timeoutMs: 60_000 });
    expect(seen).toEqual({ answer: "new", report: running(lightBuild) });
  });

  it("is asked before a flash at its address alone, unless nobody answers there", async () => {
    await using device = await at(running(oldBuild), running(lightBuild));
    expect(await probeBefore(device.target, light, { signal: never })).toMatchObject({ answer: "old" });
    expect(device.there.asked).toBe(0);
    await using moved = await at(undefined, running(lightBuild));
    expect(await probeBefore(moved.target, light, { signal: never })).toMatchObject({ answer: "new" });
    await using other = await at(undefined, running(buildAt(1, "fan")));
    expect(await probeBefore(other.target, light, { signal: never })).toMatchObject({ answer: "unreachable" });
  });

  it("is waited for through its restart, wherever it comes back", async () => {
    const seen = [running(oldBuild), undefined, undefined];
    await using here = new SimulatedApi(() => seen.shift());
    await using there = new SimulatedApi(() => (seen.length === 0 ? running(lightBuild) : undefined));
    const port = await here.listen(before);
    await there.listen(after, port);
    const target: OtaTarget = {
      kind: "ota",
      host: before,
      port: 1,
      encrypted: false,
      hostAfter: after,
      ...renamed,
      api: { port },
    };
    const options = { withinMs: 10_000, everyMs: 10, clock: systemClock, signal: never };
    expect(await waitUntilRunning(target, light, options)).toEqual({ answer: "new", report: running(lightBuild) });
  });
});
