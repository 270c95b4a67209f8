/** Fence, cancel and deadline: when a flash may begin, when it may still be stopped, and what that leaves behind. */
import { describe, expect, it } from "vitest";
import { effectOf, type Failure } from "#protocol/failure.ts";
import { SimulatedDevice } from "#simulator/device.ts";
import { startFullHouse } from "#test/fixtures/full-house.ts";
import { RecordingProxy } from "#test/support/recording-proxy.ts";
import { flash, newBuild, newImage, oldBuild, password, shortLimits, targetOf } from "#test/support/simulated-flash.ts";
import type { FlashEvent, FlashPhase, FlashResult } from "#upload-agent/flasher.ts";

const failureIn = (result: FlashResult): Failure => {
  if (result.ok) throw new Error("the flash went through");
  return result.failure;
};

describe("the fence", () => {
  it("is asked before the connection and before the size, and nowhere else", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const asked: { connections: number; phase: FlashPhase | undefined }[] = [];
    let phase: FlashPhase | undefined;
    await flash(targetOf(device), {
      onEvent: (event) => {
        if (event.kind === "phase") phase = event.phase;
      },
      mayStart: () => {
        asked.push({ connections: device.sessions.length, phase });
        return true;
      },
    });
    expect(asked).toEqual([
      { connections: 0, phase: "connecting" },
      { connections: 1, phase: "preparing" },
    ]);
  });

  it("keeps a flash that has lost its right from connecting", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const { result } = await flash(targetOf(device), { mayStart: () => false });
    expect(failureIn(result)).toMatchObject({ kind: "upload-interrupted", phase: "connecting", effect: "none" });
    expect(device.sessions).toEqual([]);
  });

  it("keeps a flash that lost its right on the way from announcing its image", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    let asked = 0;
    const { result } = await flash(targetOf(device), { mayStart: () => ++asked === 1 });
    await device.settled();
    expect(failureIn(result)).toMatchObject({
      kind: "upload-interrupted",
      phase: "preparing",
      effect: "none",
      sentBytes: 0,
      detail: "the right to flash was lost before the image was announced",
    });
    expect(device.sessions).toMatchObject([{ announcedBytes: 0 }]);
  });
});

describe("a cancel", () => {
  it("before the start keeps the device from being asked at all", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const { result } = await flash(targetOf(device), { signal: AbortSignal.abort() });
    expect(failureIn(result)).toMatchObject({ kind: "upload-interrupted", effect: "none", detail: "cancelled" });
    expect(device.sessions).toEqual([]);
  });

  it.each(["connecting", "negotiating", "authenticating", "preparing", "sending"] as const)(
    "while %s and before the first byte of the image has no effect",
    async (phase) => {
      await using device = await SimulatedDevice.start({
        build: oldBuild,
        compression: "deflate",
        password: { method: "sha256", text: password },
      });
      const cancel = new AbortController();
      const { result } = await flash(targetOf(device), {
        signal: cancel.signal,
        onEvent: (event) => {
          if (event.kind === "phase" && event.phase === phase) cancel.abort();
        },
      });
      await device.settled();
      expect(failureIn(result)).toMatchObject({
        kind: "upload-interrupted",
        phase,
        effect: "none",
        detail: "cancelled",
      });
      expect(device.build).toEqual(oldBuild);
      expect(device.sessions.every((session) => session.receivedBytes === 0)).toBe(true);
    },
  );

  it.each([1, 2])("in the middle of the image breaks the connection (version %i)", async (version) => {
    await using device = await SimulatedDevice.start({ build: oldBuild, version });
    const cancel = new AbortController();
    const { result } = await flash(targetOf(device), {
      signal: cancel.signal,
      onEvent: (event) => {
        if (event.kind === "progress" && event.sentBytes > 0.3 * event.totalBytes) cancel.abort();
      },
    });
    await device.settled();
    expect(failureIn(result)).toMatchObject({ kind: "upload-interrupted", phase: "sending", effect: "uncertain" });
    expect(device.build).toEqual(oldBuild);
    expect(device.sessions).toMatchObject([{ committed: false }]);
    // The device takes the next one at once.
    expect((await flash(targetOf(device))).result.ok).toBe(true);
  });

  it.each([1, 2])("after the last byte is ignored, and what happened is reported (version %i)", async (version) => {
    await using device = await SimulatedDevice.start({ build: oldBuild, version });
    const cancel = new AbortController();
    const { result } = await flash(targetOf(device), {
      signal: cancel.signal,
      onEvent: (event) => {
        if (event.kind === "progress" && event.sentBytes === event.totalBytes) cancel.abort();
      },
    });
    expect(result.ok).toBe(true);
    expect(device.build).toEqual(newBuild);
  });

  it("stops a connection that does not come about", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using house = await startFullHouse();
    const cancel = new AbortController();
    const flashing = flash(targetOf(device, { port: house.port }), { signal: cancel.signal });
    cancel.abort();
    expect(failureIn((await flashing).result)).toMatchObject({ kind: "upload-interrupted", effect: "none" });
  });
});

describe("the deadline of a flash", () => {
  it("has no effect on a device that never answered", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild, fault: { at: "greeting", act: "silence" } });
    const { result } = await flash(targetOf(device), { deadlineMs: 200 });
    expect(failureIn(result)).toEqual({
      kind: "deadline",
      stage: "flashing",
      limit: "total",
      limitMs: 200,
      effect: "none",
    });
  });

  it("ends a transfer that crawls, and leaves the effect open", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using proxy = await RecordingProxy.start({ to: device.otaPort, bytesPerSecond: 20_000 });
    const { result } = await flash(targetOf(device, { port: proxy.port }), { deadlineMs: 800 });
    await device.settled();
    expect(failureIn(result)).toEqual({
      kind: "deadline",
      stage: "flashing",
      limit: "total",
      limitMs: 800,
      effect: "uncertain",
    });
    expect(device.build).toEqual(oldBuild);
  });

  it("ends the wait for a commit that never comes", async () => {
    const fault = { at: "committed", act: "silence", commits: true } as const;
    await using device = await SimulatedDevice.start({ build: oldBuild, fault });
    const { result } = await flash(targetOf(device), { deadlineMs: 500 });
    expect(failureIn(result)).toEqual({
      kind: "deadline",
      stage: "flashing",
      limit: "total",
      limitMs: 500,
      effect: "uncertain",
    });
  });

  it("may be longer than any timer", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    expect((await flash(targetOf(device), { deadlineMs: Number.POSITIVE_INFINITY })).result.ok).toBe(true);
  });
});

describe("a device that is not there", () => {
  it("is unreachable when its port is closed", async () => {
    const device = await SimulatedDevice.start({ build: oldBuild });
    await device[Symbol.asyncDispose]();
    expect(failureIn((await flash(targetOf(device))).result)).toMatchObject({ kind: "device-unreachable" });
  });

  it("is unreachable when nothing answers there", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using house = await startFullHouse();
    const { result } = await flash(targetOf(device, { port: house.port }), {
      limits: { ...shortLimits, connectMs: 100 },
    });
    expect(failureIn(result)).toMatchObject({
      kind: "device-unreachable",
      address: `127.0.0.1:${house.port}`,
      detail: "no answer for 0.1 s",
    });
  });

  it("is unreachable when its name leads nowhere", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    // No resolver is asked for a label of more than 63 characters.
    const { result } = await flash(targetOf(device, { host: `${"x".repeat(64)}.local` }));
    expect(failureIn(result)).toMatchObject({ kind: "device-unreachable" });
  });

  it("is found at the address of its name that answers", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    expect((await flash(targetOf(device, { host: "localhost" }))).result.ok).toBe(true);
  });
});

describe("a transfer through a slow network", () => {
  it("tells its progress as it goes and takes as long as it takes", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using proxy = await RecordingProxy.start({ to: device.otaPort, bytesPerSecond: 200_000 });
    const startedAt = performance.now();
    const { result, events } = await flash(targetOf(device, { port: proxy.port }));
    expect(result.ok).toBe(true);
    expect(performance.now() - startedAt).toBeGreaterThan(400);
    const progress = events.filter((event: FlashEvent) => event.kind === "progress");
    expect(progress).toHaveLength(Math.ceil(newImage.length / 8192));
  });

  it("survives a pause that is shorter than its patience", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using proxy = await RecordingProxy.start({ to: device.otaPort, bytesPerSecond: 400_000 });
    const flashing = flash(targetOf(device, { port: proxy.port }));
    await proxy.until(([session]) => (session?.dataBytes ?? 0) > 20_000);
    proxy.freeze();
    setTimeout(() => proxy.thaw(), 300);
    expect((await flashing).result.ok).toBe(true);
  });

  it("reports an effect that is open when the line is cut in the middle", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using proxy = await RecordingProxy.start({ to: device.otaPort });
    proxy.plan = { cutAfterDataBytes: 50_000 };
    const failure = failureIn((await flash(targetOf(device, { port: proxy.port }))).result);
    await device.settled();
    expect(failure).toMatchObject({ kind: "upload-interrupted", phase: "sending" });
    expect(effectOf(failure)).toBe("uncertain");
    expect(device.build).toEqual(oldBuild);
  });

  it("reports an effect that is open when the line is cut behind the last byte, and the device has the image", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using proxy = await RecordingProxy.start({ to: device.otaPort });
    proxy.plan = { cutAfterLastByte: true };
    const failure = failureIn((await flash(targetOf(device, { port: proxy.port }))).result);
    await device.settled();
    expect(effectOf(failure)).toBe("uncertain");
    expect(device.build).toEqual(newBuild);
  });

  it("is refused by the device when the checksum does not fit", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using proxy = await RecordingProxy.start({ to: device.otaPort });
    proxy.plan = { spoilChecksum: true };
    const failure = failureIn((await flash(targetOf(device, { port: proxy.port }))).result);
    expect(failure).toMatchObject({ kind: "device-refused", code: 0x8b, phase: "committing", effect: "none" });
    expect(device.build).toEqual(oldBuild);
  });
});
