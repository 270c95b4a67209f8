/** Our uploader flashes ESPHome's unpatched firmware, which runs as a process of this machine. */
import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { isGroupAlive } from "#actor/process-group.ts";
import { effectOf, type Failure } from "#protocol/failure.ts";
import { type OtaTarget, withEncryption } from "#protocol/job.ts";
import { buildHostFirmware, type EsphomeTool, findEsphome, type HostFirmware } from "#test/support/host-firmware.ts";
import { flashSessions, RecordingProxy } from "#test/support/recording-proxy.ts";
import { otaKey, password } from "#test/support/simulated-flash.ts";
import type { FlashEvent, FlashResult } from "#upload-agent/flasher.ts";
import { flashOverTheAir, type OtaOptions } from "#upload-agent/ota.ts";
import { probe, waitUntilRunning } from "#upload-agent/probe.ts";
import { type HostDevice, startHostDevice } from "#simulator/host-device.ts";

const name = "real-lamp";
const mac = "02:00:00:00:AA:01";
const never = new AbortController().signal;
const firmware: Partial<Record<"plain" | "guarded" | "first", HostFirmware>> = {};
let tool: EsphomeTool;
let folder: string;
let otaPort: number;
let apiPort: number;
let devices = 0;

beforeAll(async () => {
  tool = await findEsphome();
  folder = await mkdtemp(join(tmpdir(), "flashyard-real-"));
  otaPort = await freePort();
  apiPort = await freePort();
  const common = { name, mac, otaPort, apiPort };
  const build = (label: string, over: { answer: number; password?: string; otaVersion?: 1 | 2 }) =>
    buildHostFirmware(tool, join(folder, "build"), label, { ...common, ...over });
  firmware.plain = await build("plain", { answer: 1 });
  firmware.guarded = await build("guarded", { answer: 2, password });
  firmware.first = await build("first", { answer: 3, otaVersion: 1 });
});

afterAll(async () => {
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

const targetAt = (port: number, over: Partial<OtaTarget> = {}): OtaTarget => ({
  kind: "ota",
  host: "127.0.0.1",
  port,
  encrypted: false,
  api: { port: apiPort },
  name,
  mac,
  ...over,
});

/** A device that has been flashed over USB, so to say: it runs this firmware from a folder of its own. */
async function startDevice(running: HostFirmware): Promise<HostDevice & { readonly program: string }> {
  const home = join(folder, `device-${++devices}`);
  const program = join(home, "flash", "program");
  await mkdir(join(home, "flash"), { recursive: true });
  await copyFile(running.program, program);
  const device = await startHostDevice({ name, program, home, logFile: join(home, "log") });
  expect(await runs(running)).toBe("new");
  return Object.assign(device, { program });
}

/** `new` when the device itself says that it runs this firmware. */
async function runs(expected: HostFirmware): Promise<string> {
  const options = { withinMs: 15_000, clock: systemClock, signal: never, everyMs: 50 };
  return (await waitUntilRunning(targetAt(otaPort), expected.build, options)).answer;
}

async function flash(image: Uint8Array, target: OtaTarget, options: Partial<OtaOptions> = {}) {
  const events: FlashEvent[] = [];
  const result = await flashOverTheAir(target, image, {
    signal: never,
    deadlineMs: 60_000,
    mayStart: () => true,
    ...options,
    onEvent: (event) => {
      events.push(event);
      options.onEvent?.(event);
    },
  });
  return { result, negotiated: events.find((event) => event.kind === "negotiated") };
}

function failureIn(result: FlashResult): Failure {
  if (result.ok) throw new Error("the flash went through");
  return result.failure;
}

const digestOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe("ESPHome's own firmware", () => {
  it("takes a deflated image, writes exactly it and runs it under the same pid", async () => {
    await using device = await startDevice(firmware.plain!);
    const pid = device.pid;
    const { result, negotiated } = await flash(firmware.guarded!.image, targetAt(otaPort));
    expect(result).toMatchObject({ ok: true, level: "committed", compression: "deflate" });
    expect(negotiated).toMatchObject({ version: 2, authentication: "none" });
    expect(await runs(firmware.guarded!)).toBe("new");
    expect(digestOf(await readFile(device.program))).toBe(digestOf(firmware.guarded!.image));
    expect([device.pid, device.starts]).toEqual([pid, 1]);
  });

  it("takes an image with its password, and none with another or without", async () => {
    await using _device = await startDevice(firmware.guarded!);
    const image = firmware.plain!.image;
    expect(failureIn((await flash(image, targetAt(otaPort, { password: "swordfish" }))).result).kind).toBe(
      "auth-rejected",
    );
    expect(failureIn((await flash(image, targetAt(otaPort))).result).kind).toBe("auth-rejected");
    expect(await runs(firmware.guarded!)).toBe("new");
    const { result, negotiated } = await flash(image, targetAt(otaPort, { password }));
    expect(result.ok).toBe(true);
    expect(negotiated).toMatchObject({ authentication: "sha256" });
    expect(await runs(firmware.plain!)).toBe("new");
  });

  it("takes an image over version 1 of the protocol", async () => {
    await using _device = await startDevice(firmware.first!);
    const { result, negotiated } = await flash(firmware.plain!.image, targetAt(otaPort));
    expect(result.ok).toBe(true);
    expect(negotiated).toMatchObject({ version: 1 });
    expect(await runs(firmware.plain!)).toBe("new");
  });

  it("gets no image that must be encrypted when it does not offer that, and says so where plaintext will do", async () => {
    await using _device = await startDevice(firmware.plain!);
    const keyed = targetAt(otaPort, { encryptionKey: otaKey });
    const image = firmware.first!.image;
    const required = failureIn((await flash(image, withEncryption(keyed, "require"))).result);
    expect(required).toMatchObject({ kind: "encryption-required" });
    expect(await runs(firmware.plain!)).toBe("new");
    const { result, negotiated } = await flash(image, withEncryption(keyed, "opportunistic"));
    expect(result.ok).toBe(true);
    const fallback = "the device does not offer encryption";
    expect(negotiated).toMatchObject({ encrypted: false, fallback });
    expect(await runs(firmware.first!)).toBe("new");
  });

  it("keeps its build when the checksum does not fit", async () => {
    await using _device = await startDevice(firmware.plain!);
    await using proxy = await RecordingProxy.start({ to: otaPort });
    proxy.plan = { spoilChecksum: true };
    const failure = failureIn((await flash(firmware.first!.image, targetAt(proxy.port))).result);
    expect(failure).toMatchObject({ kind: "device-refused", code: 0x8b, phase: "committing", effect: "none" });
    expect(await runs(firmware.plain!)).toBe("new");
  });

  it("keeps its build when the image is no program", async () => {
    await using _device = await startDevice(firmware.plain!);
    const failure = failureIn((await flash(Buffer.alloc(100_000, "no program "), targetAt(otaPort))).result);
    expect(failure).toMatchObject({ kind: "device-refused", code: 0x84, effect: "none" });
    expect(await runs(firmware.plain!)).toBe("new");
  });

  it("keeps its build when the flash is cancelled at 30 %, and takes the next one at once", async () => {
    await using _device = await startDevice(firmware.plain!);
    const cancel = new AbortController();
    const { result } = await flash(firmware.first!.image, targetAt(otaPort), {
      signal: cancel.signal,
      onEvent: (event) => {
        if (event.kind === "progress" && event.sentBytes >= 0.3 * event.totalBytes) cancel.abort();
      },
    });
    expect(failureIn(result)).toMatchObject({ kind: "upload-interrupted", phase: "sending", effect: "uncertain" });
    const seen = await probe(targetAt(otaPort), firmware.first!.build, { signal: never });
    expect(seen).toMatchObject({ answer: "old", report: { compilationTime: firmware.plain!.build.buildTimeStr } });
    expect((await flash(firmware.first!.image, targetAt(otaPort))).result.ok).toBe(true);
    expect(await runs(firmware.first!)).toBe("new");
  });

  it("keeps its build when the line is cut in the middle", async () => {
    await using _device = await startDevice(firmware.plain!);
    await using proxy = await RecordingProxy.start({ to: otaPort });
    proxy.plan = { cutAfterDataBytes: 100_000 };
    expect(effectOf(failureIn((await flash(firmware.first!.image, targetAt(proxy.port))).result))).toBe("uncertain");
    expect(await runs(firmware.plain!)).toBe("new");
  });

  it.each(["plain", "first"] as const)(
    "runs the new build although the line was cut right after the last byte (%s)",
    async (running) => {
      const next = running === "plain" ? firmware.first! : firmware.plain!;
      await using _device = await startDevice(firmware[running]!);
      await using proxy = await RecordingProxy.start({ to: otaPort });
      proxy.plan = { cutAfterLastByte: true };
      const failure = failureIn((await flash(next.image, targetAt(proxy.port))).result);
      expect(effectOf(failure)).toBe("uncertain");
      expect(await runs(next)).toBe("new");
      expect(proxy.sessions).toMatchObject([{ sizeSeen: true, imageDigest: digestOf(next.image) }]);
    },
  );

  it("is flashed once when two uploaders come at the same time", async () => {
    await using _device = await startDevice(firmware.plain!);
    await using proxy = await RecordingProxy.start({ to: otaPort, bytesPerSecond: 200_000 });
    const both = [flash(firmware.first!.image, targetAt(proxy.port))];
    await proxy.until(([session]) => (session?.dataBytes ?? 0) > 20_000);
    both.push(flash(firmware.guarded!.image, targetAt(proxy.port)));
    const [winner, loser] = await Promise.all(both);
    expect(winner?.result.ok).toBe(true);
    expect(effectOf(failureIn(loser!.result))).toBe("none");
    expect(flashSessions(proxy.sessions)).toHaveLength(1);
    expect(await runs(firmware.first!)).toBe("new");
  });

  it("comes back when it crashes, and leaves nothing behind when it is stopped", async () => {
    const device = await startDevice(firmware.plain!);
    const pid = device.pid;
    process.kill(pid, "SIGKILL");
    expect(await runs(firmware.plain!)).toBe("new");
    expect(device.starts).toBe(2);
    const next = device.pid;
    await device.stop();
    await device.stop();
    expect([isGroupAlive(pid), isGroupAlive(next)]).toEqual([false, false]);
    expect(await probe(targetAt(otaPort), firmware.plain!.build, { signal: never })).toMatchObject({
      answer: "unreachable",
    });
  });
});
