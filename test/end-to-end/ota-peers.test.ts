/**
 * Peers that nobody of this project wrote: ESPHome's own uploader and API client accept the simulated device that the fast tests
 * rely on, and our uploader is accepted by a device over PyPI's `noiseprotocol`.
 */
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { OtaTarget } from "#protocol/job.ts";
import { type DeviceOptions, partitionTableBytes, SimulatedDevice } from "#simulator/device.ts";
import { imageOf } from "#simulator/device-image.ts";
import { type EsphomeTool, findEsphome } from "#test/support/host-firmware.ts";
import { PythonPeer, runPython } from "#test/support/python-peer.ts";
import { flash, newBuild, newImage, oldBuild, otaKey, password } from "#test/support/simulated-flash.ts";
import { askDevice } from "#upload-agent/native-api.ts";

const mac = "02:00:00:00:AA:01";
const otherKey = Buffer.alloc(32, 7).toString("base64");
let tool: EsphomeTool;
let folder: string;

beforeAll(async () => {
  tool = await findEsphome();
  folder = await mkdtemp(join(tmpdir(), "flashyard-peers-"));
});

afterAll(async () => {
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

describe("ESPHome's own uploader", () => {
  const sha256 = { password: { method: "sha256", text: password } } as const;
  const md5 = { password: { method: "md5", text: password } } as const;
  const encryption = { encryption: { key: otaKey, isRequired: true } } as const;
  const modes: readonly Partial<DeviceOptions>[] = [
    { version: 2, compression: "deflate", ...sha256 },
    { version: 2, compression: "gzip" },
    { version: 2, compression: "none", ...sha256 },
    { version: 1, compression: "deflate" },
    { version: 1, extended: false, compression: "gzip", ...md5 },
    { version: 1, extended: false, compression: "none" },
    { version: 2, extended: false, compression: "none", ...md5, drips: true },
    { version: 1, compression: "none", ...encryption },
    { version: 2, compression: "none", ...encryption },
    { version: 2, compression: "gzip", ...encryption },
    { version: 2, compression: "deflate", ...encryption },
    { version: 2, compression: "deflate", ...encryption, drips: true },
    { version: 2, compression: "deflate", ...encryption, ...sha256 },
    { version: 2, encryption: { key: otaKey }, password: { ...sha256.password, inCipher: true } },
  ];

  /** Uploads a file to each port at once, encrypted where a key is given. @returns exit codes */
  async function upload(
    image: Uint8Array,
    jobs: readonly { readonly port: number; readonly key?: string; readonly type?: number }[],
  ): Promise<unknown> {
    const file = join(folder, "image.bin");
    await writeFile(file, image);
    const program = [
      "import json, sys",
      "from concurrent.futures import ThreadPoolExecutor",
      "from pathlib import Path",
      "from esphome.espota2 import run_ota",
      "def upload(job):",
      "    return run_ota('127.0.0.1', job['port'], sys.argv[2], Path(sys.argv[1]), job.get('type', 0), job.get('key'))[0]",
      "with ThreadPoolExecutor() as pool: codes = list(pool.map(upload, json.loads(sys.argv[3])))",
      "print(json.dumps(codes))",
    ];
    return runPython(tool, program, file, password, JSON.stringify(jobs));
  }

  const keyOf = ({ options }: SimulatedDevice) => (options.encryption === undefined ? {} : { key: otaKey });

  it("takes the simulated device for a device in every mode", async () => {
    const image = imageOf(newBuild);
    const devices = await Promise.all(modes.map((mode) => SimulatedDevice.start({ build: oldBuild, ...mode })));
    try {
      const codes = await upload(
        image,
        devices.map((device) => ({ port: device.otaPort, ...keyOf(device) })),
      );
      expect(codes).toEqual(modes.map(() => 0));
      for (const device of devices) {
        await device.settled();
        expect(device.build).toEqual(newBuild);
        expect(Buffer.compare(device.image!, image)).toBe(0);
        expect(device.sessions).toMatchObject([{ encrypted: device.options.encryption !== undefined }]);
      }
    } finally {
      for (const device of devices) await device[Symbol.asyncDispose]();
    }
  });

  it.each([
    ["partition-table", 1],
    ["bootloader", 2],
  ] as const)("replaces its %s, in plaintext and through a cipher", async (part, type) => {
    const image = Buffer.alloc(partitionTableBytes, 0xff);
    image.set(part === "bootloader" ? [0xe9] : [0xaa, 0x50]);
    const options = { build: oldBuild, opensPartitions: true };
    await using plain = await SimulatedDevice.start(options);
    await using keyed = await SimulatedDevice.start({
      ...options,
      encryption: { key: otaKey },
      compression: "deflate",
    });
    const jobs = [
      { port: plain.otaPort, type },
      { port: keyed.otaPort, type, key: otaKey },
    ];
    expect(await upload(image, jobs)).toEqual([0, 0]);
    for (const device of [plain, keyed]) {
      await device.settled();
      const taken = part === "bootloader" ? device.bootloader : device.partitionTable;
      expect(Buffer.compare(taken!, image)).toBe(0);
      expect(device.build).toEqual(oldBuild);
    }
  });

  it("is refused with a wrong key, and without one where the device requires it", async () => {
    await using device = await SimulatedDevice.start({
      build: oldBuild,
      encryption: { key: otaKey, isRequired: true },
    });
    const port = device.otaPort;
    expect(await upload(imageOf(newBuild), [{ port, key: otherKey }])).toEqual([1]);
    expect(await upload(imageOf(newBuild), [{ port }])).toEqual([1]);
    expect(device.build).toEqual(oldBuild);
  });
});

describe("ESPHome's own API client", () => {
  const question = [
    "import asyncio, json, sys",
    "from aioesphomeapi import APIClient",
    "async def main():",
    "    client = APIClient('127.0.0.1', int(sys.argv[1]), None, noise_psk=sys.argv[2] or None)",
    "    try: await client.connect()",
    "    except Exception as error: return type(error).__name__",
    "    info = await client.device_info()",
    "    return [info.name, info.mac_address, info.compilation_time, info.esphome_version]",
    "print(json.dumps(asyncio.run(main())))",
  ];
  const answer = [oldBuild.name, mac, oldBuild.compilationTime, oldBuild.esphomeVersion];

  it.each([
    ["plain", ""],
    ["chatty", ""],
    ["plain", otaKey],
    ["chatty", otaKey],
  ] as const)("understands the simulated device (%s, key %o)", async (api, key) => {
    const encryption = key === "" ? {} : { encryption: { key } };
    await using device = await SimulatedDevice.start({ build: oldBuild, mac, api, ...encryption });
    expect(await runPython(tool, question, String(device.apiPort), key)).toEqual(answer);
  });

  it.each([
    ["a wrong key", otaKey, otherKey, "InvalidEncryptionKeyAPIError"],
    ["no key", otaKey, "", "RequiresEncryptionAPIError"],
    ["a key where there is none", undefined, otaKey, "EncryptionPlaintextAPIError"],
  ] as const)("is refused with %s", async (_name, key, known, error) => {
    const encryption = key === undefined ? {} : { encryption: { key } };
    await using device = await SimulatedDevice.start({ build: oldBuild, ...encryption });
    expect(await runPython(tool, question, String(device.apiPort), known)).toBe(error);
  });
});

describe("a device over PyPI's noiseprotocol", () => {
  const targetAt = (port: number, over: Partial<OtaTarget> = {}): OtaTarget => ({
    kind: "ota",
    host: "127.0.0.1",
    port,
    name: "lamp",
    encryption: "require",
    encrypted: true,
    encryptionKey: otaKey,
    ...over,
  });
  const sha256 = createHash("sha256").update(newImage).digest("hex");

  it.each([
    [1, []],
    [2, []],
    [1, ["--deflate"]],
    [2, ["--deflate"]],
  ] as const)("takes an image (version %i %o)", async (version, flags) => {
    const argv = ["ota", "--key", otaKey, "--version", String(version), ...flags];
    await using peer = await PythonPeer.start(tool, "noise_responder.py", ...argv);
    const { result, events } = await flash(targetAt(peer.port));
    expect(result).toMatchObject({ ok: true, compression: flags.length === 0 ? "none" : "deflate" });
    expect(events).toContainEqual(expect.objectContaining({ kind: "negotiated", version, encrypted: true }));
    expect(await peer.saw()).toEqual({ type: 0, sha256, end: 0 });
  });

  it("takes a bootloader, and refuses a wrong key and plaintext", async () => {
    await using peer = await PythonPeer.start(tool, "noise_responder.py", "ota", "--key", otaKey);
    expect((await flash(targetAt(peer.port), { updateKind: "bootloader" })).result.ok).toBe(true);
    expect(await peer.saw()).toMatchObject({ type: 2, end: 0 });
    const wrong = await flash(targetAt(peer.port, { encryptionKey: otherKey }));
    expect(wrong.result).toMatchObject({ ok: false, failure: { kind: "auth-rejected" } });
    expect(await peer.saw()).toEqual({ problem: "wrong key" });
    const plain = await flash(targetAt(peer.port, { encryption: "never", encrypted: false }));
    expect(plain.result).toMatchObject({ ok: false, failure: { kind: "encryption-required" } });
    expect(await peer.saw()).toEqual({ problem: "no cipher" });
  });

  it("says over its API what it runs, and nothing to a wrong key", async () => {
    const built = newBuild.compilationTime;
    await using peer = await PythonPeer.start(tool, "noise_responder.py", "api", "--key", otaKey, "--built", built);
    const ask = (encryptionKey: string) =>
      askDevice(targetAt(1, { api: { port: peer.port, encryptionKey } }), {
        signal: new AbortController().signal,
        timeoutMs: 5_000,
      });
    const report = { name: "lamp", mac: "02:00:00:00:00:01", compilationTime: built, esphomeVersion: "2026.10.0" };
    expect(await ask(otaKey)).toEqual({ kind: "answered", report });
    expect(await peer.saw()).toEqual({ types: [1, 9, 5], client: "flashyard" });
    expect(await ask(otherKey)).toEqual({
      kind: "key-refused",
      detail: "the API's encryption key is wrong",
      claim: { name: "lamp", mac: "020000000001" },
    });
    expect(await peer.saw()).toEqual({ problem: "wrong key" });
  });
});
