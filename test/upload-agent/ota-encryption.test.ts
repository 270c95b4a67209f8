/** Which flashes are encrypted, what is agreed on, and what happens when it does not come about. */
import { describe, expect, it } from "vitest";
import { retryOf } from "#protocol/failure.ts";
import { type OtaEncryption, type OtaTarget, withEncryption } from "#protocol/job.ts";
import { type DeviceOptions, SimulatedDevice } from "#simulator/device.ts";
import {
  flash,
  newBuild,
  newImage,
  oldBuild,
  otaKey,
  otherKey,
  password,
  targetOf,
} from "#test/support/simulated-flash.ts";

/** A target with a key of its own and one of these policies. */
const keyed = (device: SimulatedDevice, encryption: OtaEncryption, over: Partial<OtaTarget> = {}): OtaTarget => ({
  ...withEncryption(targetOf(device), encryption),
  encryptionKey: otaKey,
  ...over,
});

const start = (options: Partial<DeviceOptions> = {}) => SimulatedDevice.start({ build: oldBuild, ...options });
const encryption = { key: otaKey };
const modes = [1, 2].flatMap((version) =>
  (["none", "gzip", "deflate"] as const).flatMap((compression) =>
    [false, true].map((drips) => ({ version, compression, drips })),
  ),
);

describe("an encrypted flash", () => {
  it.each(modes)(
    "reaches a device of version $version, compression $compression, drips $drips",
    async ({ version, compression, drips }) => {
      await using device = await start({
        version,
        compression,
        drips,
        encryption: { ...encryption, isRequired: true },
      });
      const { result, events } = await flash(keyed(device, "require"));
      await device.settled();
      expect(result).toMatchObject({ ok: true, level: "committed", compression });
      expect(Buffer.compare(device.image!, newImage)).toBe(0);
      expect(device.build).toEqual(newBuild);
      expect(device.sessions).toMatchObject([{ encrypted: true, committed: true }]);
      const terms = { version, compression, authentication: "none", encrypted: true } as const;
      expect(events).toContainEqual({ kind: "negotiated", ...terms });
    },
  );

  it("takes the key of the API where it has none of its own", async () => {
    await using device = await start({ encryption });
    const { encryptionKey: _none, ...target } = keyed(device, "require");
    const { result } = await flash({ ...target, api: { port: device.apiPort, encryptionKey: otaKey } });
    expect(result.ok).toBe(true);
    expect(device.sessions).toMatchObject([{ encrypted: true }]);
  });

  it.each(["md5", "sha256"] as const)("answers a device that asks for a password all the same (%s)", async (method) => {
    await using device = await start({ encryption, password: { method, text: password, inCipher: true } });
    const { result, events } = await flash(keyed(device, "require"));
    expect(result.ok).toBe(true);
    expect(events).toContainEqual(expect.objectContaining({ encrypted: true, authentication: method }));
  });

  it("needs no password where the key is proof enough", async () => {
    await using device = await start({ encryption, password: { method: "sha256", text: password } });
    const { password: _none, ...target } = keyed(device, "require");
    expect((await flash(target)).result.ok).toBe(true);
  });
});

describe("a cancel of an encrypted flash", () => {
  it.each(["connecting", "negotiating", "authenticating", "preparing", "sending"] as const)(
    "while %s and before the first byte of the image has no effect",
    async (phase) => {
      await using device = await start({ encryption });
      const cancel = new AbortController();
      const { result } = await flash(keyed(device, "require"), {
        signal: cancel.signal,
        onEvent: (event) => {
          if (event.kind === "phase" && event.phase === phase) cancel.abort();
        },
      });
      await device.settled();
      expect(result).toMatchObject({
        ok: false,
        failure: { kind: "upload-interrupted", phase, effect: "none", detail: "cancelled" },
      });
      expect([device.build, device.sessions.every((session) => session.receivedBytes === 0)]).toEqual([oldBuild, true]);
    },
  );

  it("in the middle of the image breaks the connection, and after its last byte it is ignored", async () => {
    await using device = await start({ encryption });
    const cancelledFrom = async (share: number) => {
      const cancel = new AbortController();
      const { result } = await flash(keyed(device, "require"), {
        signal: cancel.signal,
        onEvent: (event) => {
          if (event.kind === "progress" && event.sentBytes >= share * event.totalBytes) cancel.abort();
        },
      });
      await device.settled();
      return result;
    };
    expect(await cancelledFrom(0.3)).toMatchObject({ ok: false, failure: { phase: "sending", effect: "uncertain" } });
    expect(device.build).toEqual(oldBuild);
    expect((await cancelledFrom(1)).ok).toBe(true);
    expect(device.build).toEqual(newBuild);
  });
});

describe("a flash that is to be encrypted", () => {
  it.each([
    ["is of before", { encryption: undefined, encrypted: true }],
    ["says so", { encryption: "require", encrypted: true }],
  ] as const)(
    "sends no more than a greeting to a device that does not offer it, when its record %s",
    async (_, over) => {
      await using device = await start({ password: { method: "sha256", text: password } });
      const { encryption: _policy, ...rest } = keyed(device, "require");
      const target = { ...rest, ...(over.encryption === undefined ? {} : { encryption: over.encryption }) };
      const { result, events } = await flash(target);
      await device.settled();
      expect(result).toMatchObject({
        ok: false,
        failure: { kind: "encryption-required", detail: expect.stringContaining("does not offer encryption") },
      });
      expect(events.some((event) => event.kind === "negotiated")).toBe(false);
      expect(device.sessions).toMatchObject([{ announcedBytes: 0 }]);
    },
  );

  it.each([undefined, "Zm9v", Buffer.alloc(32).toString("base64")])(
    "does not even connect with a key that is none (%s)",
    async (encryptionKey) => {
      await using device = await start({ encryption });
      const { encryptionKey: _key, ...rest } = keyed(device, "require");
      const { result } = await flash({ ...rest, ...(encryptionKey === undefined ? {} : { encryptionKey }) });
      expect(result).toMatchObject({ ok: false, failure: { kind: "encryption-required" } });
      expect(JSON.stringify(result)).not.toContain(encryptionKey ?? otaKey);
      expect(device.sessions).toEqual([]);
    },
  );

  it("does not fall back for a device of old firmware that knows no extended protocol", async () => {
    await using device = await start({ extended: false });
    const { result } = await flash(keyed(device, "require"));
    expect(result).toMatchObject({ ok: false, failure: { kind: "encryption-required" } });
  });
});

describe("a wrong key", () => {
  it.each(["require", "opportunistic"] as const)("ends the flash and never leads to plaintext (%s)", async (policy) => {
    await using device = await start({ encryption });
    const { result } = await flash(keyed(device, policy, { encryptionKey: otherKey }));
    await device.settled();
    if (result.ok) throw new Error("it went through");
    expect(result.failure).toMatchObject({ kind: "auth-rejected", detail: expect.stringContaining("key is wrong") });
    expect(retryOf(result.failure)).toBe("never");
    expect(JSON.stringify(result)).not.toContain(otherKey);
    expect(device.sessions).toMatchObject([{ encrypted: false, announcedBytes: 0 }]);
  });

  it("is told apart from another reason, whose words are cleaned and bounded", async () => {
    const reason = [...Buffer.from("no\u001b[2J\r\n way")];
    await using device = await start({ encryption, fault: { at: "handshake", act: [0x01, ...reason] } });
    const { result } = await flash(keyed(device, "require"));
    expect(result).toMatchObject({
      ok: false,
      failure: { kind: "auth-rejected", detail: "it refused the cipher: no[2J way" },
    });
  });
});

describe("an opportunistic flash", () => {
  it("is encrypted where the device offers it", async () => {
    await using device = await start({ encryption });
    expect((await flash(keyed(device, "opportunistic"))).result.ok).toBe(true);
    expect(device.sessions).toMatchObject([{ encrypted: true }]);
  });

  it.each([
    ["the device does not offer encryption", { encryptionKey: otaKey }],
    ["the configuration has no key", {}],
    ["the configuration's key is not 32 bytes in base64", { encryptionKey: "Zm9v" }],
  ] as const)("is in plaintext and says so when %s", async (fallback, over) => {
    await using device = await start();
    const { encryptionKey: _key, ...rest } = keyed(device, "opportunistic");
    const { result, events } = await flash({ ...rest, ...over });
    expect(result.ok).toBe(true);
    expect(events).toContainEqual(expect.objectContaining({ kind: "negotiated", encrypted: false, fallback }));
  });
});

describe("a flash in plaintext", () => {
  it("goes to a device that offers encryption, when nobody asked for it", async () => {
    await using device = await start({ encryption });
    const { result, events } = await flash(targetOf(device, { api: { port: device.apiPort, encryptionKey: otaKey } }));
    expect(result.ok).toBe(true);
    const terms = events.find((event) => event.kind === "negotiated");
    expect(terms).toEqual(expect.objectContaining({ encrypted: false }));
    expect(terms).not.toHaveProperty("fallback");
  });

  it("goes nowhere when the device requires encryption", async () => {
    await using device = await start({ encryption: { ...encryption, isRequired: true } });
    const { result } = await flash(keyed(device, "never"));
    expect(result).toMatchObject({ ok: false, failure: { kind: "encryption-required" } });
  });
});

describe("an update of another part", () => {
  const table = Buffer.alloc(0xc00, 0xff);
  table.set([0xaa, 0x50]);
  const bootloader = Buffer.alloc(20_000, 1);
  bootloader[0] = 0xe9;
  const partOptions = { "partition-table": table, bootloader } as const;
  const kinds = ["partition-table", "bootloader"] as const;
  const variants = kinds.flatMap((kind) => [false, true].map((isEncrypted) => [kind, isEncrypted] as const));
  const targetFor = (device: SimulatedDevice, isEncrypted: boolean) => keyed(device, isEncrypted ? "require" : "never");

  it.each(variants)("replaces the %s and nothing else (encrypted: %s)", async (updateKind, isEncrypted) => {
    await using device = await start({ encryption, opensPartitions: true, compression: "deflate" });
    const { result } = await flash(targetFor(device, isEncrypted), { image: partOptions[updateKind], updateKind });
    await device.settled();
    expect(result).toMatchObject({ ok: true, level: "committed" });
    const taken = { "partition-table": device.partitionTable, bootloader: device.bootloader };
    for (const kind of kinds) {
      expect(taken[kind]?.length).toBe(kind === updateKind ? partOptions[kind].length : undefined);
    }
    expect([device.image, device.build]).toEqual([undefined, oldBuild]);
  });

  it.each(kinds)("is not sent when the device does not open its %s", async (updateKind) => {
    await using device = await start();
    const { result } = await flash(targetOf(device), { image: partOptions[updateKind], updateKind });
    await device.settled();
    expect(result).toMatchObject({
      ok: false,
      failure: { kind: "image-unsuitable", detail: expect.stringContaining("allow_partition_access") },
    });
    expect(device.sessions).toMatchObject([{ announcedBytes: 0 }]);
  });

  it.each([
    ["partition-table", Buffer.alloc(0xc00), 0x8f],
    ["partition-table", Buffer.alloc(100), 0x8f],
    ["bootloader", Buffer.alloc(20_000), 0x91],
    ["bootloader", Buffer.alloc(0x8001, 0xe9), 0x91],
  ] as const)("that is no %s leaves the device as it was", async (updateKind, image, code) => {
    await using device = await start({ opensPartitions: true });
    const { result } = await flash(targetOf(device), { image, updateKind });
    await device.settled();
    expect(result).toMatchObject({ ok: false, failure: { kind: "device-refused", code, effect: "none" } });
    expect([device.partitionTable, device.bootloader, device.isDegraded]).toEqual([undefined, undefined, false]);
  });

  it.each([
    ["partition-table", 0x90, false],
    ["partition-table", 0x90, true],
    ["bootloader", 0x92, false],
    ["bootloader", 0x92, true],
  ] as const)(
    "that the device fails to write is said loudly and never tried again (%s)",
    async (updateKind, code, isEncrypted) => {
      const fault = { at: "committed", act: [code] } as const;
      await using device = await start({ encryption, opensPartitions: true, fault });
      const target = targetFor(device, isEncrypted);
      const { result } = await flash(target, { image: partOptions[updateKind], updateKind });
      await device.settled();
      if (result.ok) throw new Error("it went through");
      expect(result.failure).toMatchObject({ kind: "device-refused", code, effect: "partial" });
      expect(result.failure).toHaveProperty("meaning", expect.stringContaining("do not restart it"));
      expect(retryOf(result.failure)).toBe("never");
      expect(device.isDegraded).toBe(true);
    },
  );
});
