/** Our uploader and our questions against ESPHome's unpatched firmware with a key: its own update server and API over noise-c. */
import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { effectOf, type Failure } from "#protocol/failure.ts";
import { type OtaEncryption, type OtaTarget, withEncryption } from "#protocol/job.ts";
import { ByteProxy, type Cut } from "#test/support/byte-proxy.ts";
import { buildHostFirmware, findEsphome, type HostFirmware } from "#test/support/host-firmware.ts";
import { flash, otaKey } from "#test/support/simulated-flash.ts";
import type { FlashResult } from "#upload-agent/flasher.ts";
import { packImage } from "#upload-agent/ota-payload.ts";
import { probe, waitUntilRunning } from "#upload-agent/probe.ts";
import { type HostDevice, startHostDevice } from "#simulator/host-device.ts";

const name = "keyed-lamp";
const mac = "02:00:00:00:AA:02";
const otherKey = Buffer.alloc(32, 7).toString("base64");
const never = new AbortController().signal;
const firmware: Partial<Record<"offering" | "requiring" | "next", HostFirmware>> = {};
let folder: string;
let otaPort: number;
let apiPort: number;
let devices = 0;

beforeAll(async () => {
  const tool = await findEsphome();
  folder = await mkdtemp(join(tmpdir(), "flashyard-cipher-"));
  otaPort = await freePort();
  apiPort = await freePort();
  const build = (label: string, answer: number, isRequired: boolean) =>
    buildHostFirmware(tool, join(folder, "build"), label, {
      name,
      mac,
      otaPort,
      apiPort,
      answer,
      encryption: { key: otaKey, isRequired },
    });
  firmware.offering = await build("offering", 1, false);
  firmware.requiring = await build("requiring", 2, true);
  firmware.next = await build("next", 3, true);
});

afterAll(async () => {
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

const targetAt = (port: number, policy: OtaEncryption, key = otaKey): OtaTarget =>
  withEncryption(
    { kind: "ota", host: "127.0.0.1", port, encrypted: false, name, mac, api: { port: apiPort, encryptionKey: key } },
    policy,
  );

async function runs(expected: HostFirmware): Promise<string> {
  const options = { withinMs: 15_000, clock: systemClock, signal: never, everyMs: 50 };
  return (await waitUntilRunning(targetAt(otaPort, "require"), expected.build, options)).answer;
}

async function startDevice(running: HostFirmware): Promise<HostDevice> {
  const home = join(folder, `device-${++devices}`);
  const program = join(home, "flash", "program");
  await mkdir(join(home, "flash"), { recursive: true });
  await copyFile(running.program, program);
  const device = await startHostDevice({ name, program, home, logFile: join(home, "log") });
  expect(await runs(running)).toBe("new");
  return device;
}

/** Greeting, features, handshake, kind, both sizes and checksum: where in the client's bytes the image begins. */
const imageAt = 5 + 1 + 52 + 20 + 46 + 51;

/** Greeting, flags, handshake, and three answers of one byte each in a frame: what the device has said before the first block. */
const answersBeforeImage = 2 + 2 + 52 + 3 * 20;

function failureIn(result: FlashResult): Failure {
  if (result.ok) throw new Error("the flash went through");
  return result.failure;
}

describe("ESPHome's own firmware with a key", () => {
  it("says over its encrypted API which build it runs, and nothing to another key", async () => {
    await using _device = await startDevice(firmware.offering!);
    const ask = (key: string, expected: HostFirmware) =>
      probe(targetAt(otaPort, "require", key), expected.build, { signal: never });
    expect(await ask(otaKey, firmware.offering!)).toMatchObject({ answer: "new" });
    expect(await ask(otaKey, firmware.next!)).toMatchObject({ answer: "old" });
    expect(await ask(otherKey, firmware.offering!)).toEqual({
      answer: "unknowable",
      detail: "the API's encryption key is wrong",
      mayPass: true,
    });
    const { api: _api, ...target } = targetAt(otaPort, "require");
    const unkeyed = { ...target, api: { port: apiPort } };
    expect(await probe(unkeyed, firmware.next!.build, { signal: never })).toMatchObject({ answer: "unknowable" });
  });

  it.each([
    ["offering", "require", true],
    ["offering", "opportunistic", true],
    ["offering", "never", false],
    ["requiring", "require", true],
    ["requiring", "opportunistic", true],
  ] as const)(
    "that is %s a cipher takes an image under the policy %s (encrypted: %s)",
    async (running, policy, encrypted) => {
      await using _device = await startDevice(firmware[running]!);
      const { result, events } = await flash(targetAt(otaPort, policy), { image: firmware.next!.image });
      expect(result).toMatchObject({ ok: true, compression: "deflate" });
      expect(events).toContainEqual(expect.objectContaining({ kind: "negotiated", encrypted }));
      expect(await runs(firmware.next!)).toBe("new");
    },
  );

  it("takes nothing in plaintext when it requires a cipher, and nothing with another key", async () => {
    await using _device = await startDevice(firmware.requiring!);
    const image = firmware.next!.image;
    expect(failureIn((await flash(targetAt(otaPort, "never"), { image })).result).kind).toBe("encryption-required");
    const wrong = failureIn((await flash(targetAt(otaPort, "require", otherKey), { image })).result);
    expect(wrong).toMatchObject({ kind: "auth-rejected", detail: expect.stringContaining("key is wrong") });
    expect(await runs(firmware.requiring!)).toBe("new");
  });

  it("does not let its bootloader be replaced", async () => {
    await using _device = await startDevice(firmware.requiring!);
    const target = targetAt(otaPort, "require");
    const { result } = await flash(target, { image: firmware.next!.image, updateKind: "bootloader" });
    expect(failureIn(result)).toMatchObject({ kind: "image-unsuitable" });
    expect(await runs(firmware.requiring!)).toBe("new");
  });

  it("is left as it is reported, wherever in the cipher the line is cut", async () => {
    await using _device = await startDevice(firmware.requiring!);
    await using proxy = await ByteProxy.start(otaPort);
    const image = firmware.next!.image;
    const effectAt = async (cut: Cut) => {
      proxy.cut = cut;
      return effectOf(failureIn((await flash(targetAt(proxy.port, "require"), { image })).result));
    };
    for (let clientBytes = 1; clientBytes < imageAt; clientBytes++) {
      expect([clientBytes, await effectAt({ clientBytes })]).toEqual([clientBytes, "none"]);
    }
    for (const bytes of [1, 3, 500, 1_043, 8_344, 100_000]) {
      expect([bytes, await effectAt({ clientBytes: imageAt + bytes })]).toEqual([bytes, "uncertain"]);
    }
    for (let deviceBytes = 0; deviceBytes < answersBeforeImage; deviceBytes++) {
      expect([deviceBytes, await effectAt({ deviceBytes })]).toEqual([deviceBytes, "none"]);
    }
    for (const bytes of [1, 19, 20, 21, 100]) {
      expect([bytes, await effectAt({ deviceBytes: answersBeforeImage + bytes })]).toEqual([bytes, "uncertain"]);
    }
    expect(await runs(firmware.requiring!)).toBe("new");
    proxy.cut = {};
    expect((await flash(targetAt(proxy.port, "require"), { image })).result.ok).toBe(true);
    expect(await runs(firmware.next!)).toBe("new");
  });

  it("runs the new build although the line was cut right after the last frame", async () => {
    const image = firmware.next!.image;
    const wireBytes = (await packImage(image, "deflate")).wire.length;
    await using _device = await startDevice(firmware.requiring!);
    await using proxy = await ByteProxy.start(otaPort);
    // Each frame of 1024 bytes has a head of three and a MAC of sixteen.
    proxy.cut = { clientBytes: imageAt + wireBytes + 19 * Math.ceil(wireBytes / 1_024) };
    const failure = failureIn((await flash(targetAt(proxy.port, "require"), { image })).result);
    expect(effectOf(failure)).toBe("uncertain");
    expect(await runs(firmware.next!)).toBe("new");
  });
});
