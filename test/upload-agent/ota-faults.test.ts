/** Every fault at every step of a flash: what is reported, and that it agrees with the device's true state. */
import { describe, expect, it } from "vitest";
import { type Effect, effectOf, retryOf } from "#protocol/failure.ts";
import { SimulatedDevice } from "#simulator/device.ts";
import type { Fault } from "#simulator/ota-fault.ts";
import { flash, newBuild, newImage, oldBuild, otaKey, password, targetOf } from "#test/support/simulated-flash.ts";

/** Kind and effect that are to be reported, and the build that the device is left with. */
type Report = readonly [kind: string, effect: Effect, build: "old" | "new"];
type Case = readonly [name: string, fault: Fault, report: Report];

const untouched = (kind: string): Report => [kind, "none", "old"];
const asciiOf = (text: string) => [...Buffer.from(text)];

const beforeTheImage: readonly Case[] = [
  ["closes instead of a greeting", { at: "greeting", act: "close" }, untouched("upload-interrupted")],
  ["resets instead of a greeting", { at: "greeting", act: "reset" }, untouched("upload-interrupted")],
  ["never greets", { at: "greeting", act: "silence" }, untouched("upload-interrupted")],
  ["does not know the magic", { at: "greeting", act: [0x80] }, untouched("device-refused")],
  ["greets with something else", { at: "greeting", act: [0x55] }, untouched("protocol")],
  ["greets with an error of tomorrow", { at: "greeting", act: [0x95] }, untouched("protocol")],
  ["speaks version 3", { at: "greeting", act: [0x00, 3] }, untouched("protocol")],
  ["speaks version 0", { at: "greeting", act: [0x00, 0] }, untouched("protocol")],
  ["closes inside its greeting", { at: "greeting", before: [0x00], act: "close" }, untouched("upload-interrupted")],
  ["stops inside its greeting", { at: "greeting", before: [0x00], act: "silence" }, untouched("upload-interrupted")],
  ["floods instead of a greeting", { at: "greeting", act: "flood" }, untouched("protocol")],
  ["wants encryption", { at: "features", act: [0x94] }, untouched("encryption-required")],
  ["fails at the features", { at: "features", act: [0xff] }, untouched("device-refused")],
  ["answers the features with nonsense", { at: "features", act: [0x41] }, untouched("protocol")],
  ["closes inside its features", { at: "features", before: [0x48], act: "close" }, untouched("upload-interrupted")],
  ["closes instead of features", { at: "features", act: "close" }, untouched("upload-interrupted")],
  ["never tells its features", { at: "features", act: "silence" }, untouched("upload-interrupted")],
  ["refuses before it asked", { at: "nonce", act: [0x82] }, untouched("auth-rejected")],
  ["sends a nonce that is none", { at: "nonce", act: [0x02, ...asciiOf("z".repeat(64))] }, untouched("protocol")],
  ["fails where its nonce begins", { at: "nonce", act: [0x02, 0xff] }, untouched("device-refused")],
  ["floods as its nonce", { at: "nonce", before: [0x02], act: "flood" }, untouched("protocol")],
  [
    "floods behind its nonce",
    { at: "nonce", before: [0x02, ...asciiOf("a".repeat(64))], act: "flood" },
    untouched("protocol"),
  ],
  [
    "stops inside its nonce",
    { at: "nonce", before: [0x02, ...asciiOf("abc")], act: "silence" },
    untouched("upload-interrupted"),
  ],
  [
    "closes inside its nonce",
    { at: "nonce", before: [0x02, ...asciiOf("abc")], act: "close" },
    untouched("upload-interrupted"),
  ],
  ["does not accept the password", { at: "authenticated", act: [0x82] }, untouched("auth-rejected")],
  ["closes at the password", { at: "authenticated", act: "close" }, untouched("upload-interrupted")],
  ["says committed at the password", { at: "authenticated", act: [0x45] }, untouched("protocol")],
  ["cannot prepare", { at: "prepared", act: [0x81] }, untouched("device-refused")],
  ["has no space", { at: "prepared", act: [0x89] }, untouched("device-refused")],
  ["has no partition", { at: "prepared", act: [0x8a] }, untouched("device-refused")],
  ["was flashed for another size", { at: "prepared", act: [0x86] }, untouched("device-refused")],
  ["degraded its partition table", { at: "prepared", act: [0x90] }, ["device-refused", "partial", "old"]],
  ["resets while it prepares", { at: "prepared", act: "reset" }, untouched("upload-interrupted")],
  ["never gets ready", { at: "prepared", act: "silence" }, untouched("upload-interrupted")],
  ["closes at the checksum", { at: "checksum", act: "close" }, untouched("upload-interrupted")],
  ["claims to have all before it got any", { at: "checksum", act: [0x44] }, untouched("protocol")],
  ["speaks on behind the checksum", { at: "checksum", act: [0x43, 0x67] }, untouched("protocol")],
];

const duringTheImage: readonly Case[] = (
  [
    ["fails to write its flash", { at: "block", act: [0x83] }, untouched("device-refused")],
    ["fails for no known reason", { at: "block", act: [0xff] }, untouched("device-refused")],
    ["closes", { at: "block", act: "close" }, ["upload-interrupted", "uncertain", "old"]],
    ["resets", { at: "block", act: "reset" }, ["upload-interrupted", "uncertain", "old"]],
    ["falls silent", { at: "block", act: "silence" }, ["deadline", "uncertain", "old"]],
    ["answers nonsense", { at: "block", act: [0x55] }, ["protocol", "uncertain", "old"]],
    ["claims to have all too early", { at: "block", act: [0x45] }, ["protocol", "uncertain", "old"]],
    ["answers with an error of tomorrow", { at: "block", act: [0x95] }, ["protocol", "uncertain", "old"]],
  ] as const
).flatMap(([name, fault, report]) => [
  [`${name} at the first byte`, { ...fault, afterBytes: 1 }, report] as const,
  [`${name} in the middle`, { ...fault, afterBytes: 30_000 }, report] as const,
  [`${name} at the last byte`, { ...fault, afterBytes: newImage.length }, report] as const,
]);

const uncertain = (kind: string, build: "old" | "new"): Report => [kind, "uncertain", build];
const afterTheImage: readonly Case[] = [
  ["cannot finish", { at: "received", act: [0x84] }, untouched("device-refused")],
  [
    "says that all arrived and then that the checksum is wrong",
    { at: "committed", act: [0x8b] },
    untouched("device-refused"),
  ],
  ["does not know the signature", { at: "committed", act: [0x8d] }, untouched("device-refused")],
  ["does not go back to an older version", { at: "committed", act: [0x93] }, untouched("device-refused")],
  ["degraded its bootloader", { at: "committed", act: [0x92] }, ["device-refused", "partial", "old"]],
  ["says something else than received", { at: "received", act: [0x55] }, uncertain("protocol", "old")],
  ["says something else than committed", { at: "committed", act: [0x44] }, uncertain("protocol", "old")],
  ...(["received", "committed"] as const).flatMap((at) =>
    (["close", "reset", "silence"] as const).flatMap((act) =>
      [false, true].map((commits): Case => {
        const kind = act === "silence" ? "deadline" : "upload-interrupted";
        const name = `${act}s instead of ${at} and ${commits ? "has taken" : "has not taken"} the image`;
        return [name, { at, act, commits }, uncertain(kind, commits ? "new" : "old")];
      }),
    ),
  ),
];

async function checkFault(version: number, fault: Fault, report: Report): Promise<void> {
  const [kind, effect, build] = report;
  await using device = await SimulatedDevice.start({
    build: oldBuild,
    version,
    password: { method: "sha256", text: password },
    fault,
  });
  const isSilent = fault.act === "silence";
  const { result, events } = await flash(
    targetOf(device),
    isSilent ? { limits: { connectMs: 2_000, handshakeMs: 300, silenceMs: 300, lastWordMs: 100 } } : {},
  );
  await device.settled();
  if (result.ok) throw new Error("the fault went unnoticed");
  const { failure } = result;
  expect({ kind: failure.kind, effect: effectOf(failure), build: device.build }).toEqual({
    kind,
    effect,
    build: build === "new" ? newBuild : oldBuild,
  });
  // What may be tried again by itself has left the device as it was, and before the first byte of the image.
  if (retryOf(failure) !== "never") {
    expect(device.image).toBeUndefined();
    expect(events.some((event) => event.kind === "progress")).toBe(false);
  }
}

describe.each([1, 2])("a device of version %i that", (version) => {
  it.concurrent.each([...beforeTheImage, ...duringTheImage, ...afterTheImage])("%s", async (_name, fault, report) => {
    await checkFault(version, fault, report);
  });
});

describe("a password", () => {
  it.each(["md5", "sha256"] as const)("that is wrong is told apart from a network fault (%s)", async (method) => {
    await using device = await SimulatedDevice.start({ build: oldBuild, password: { method, text: password } });
    const { result } = await flash(targetOf(device, { password: "swordfish" }));
    expect(result).toMatchObject({ ok: false, failure: { kind: "auth-rejected" } });
    expect(JSON.stringify(result)).not.toContain("swordfish");
  });

  it("that is missing is not guessed", async () => {
    await using device = await SimulatedDevice.start({
      build: oldBuild,
      password: { method: "sha256", text: password },
    });
    const { password: _none, ...target } = targetOf(device);
    const { result } = await flash(target);
    expect(result).toMatchObject({
      ok: false,
      failure: { kind: "auth-rejected", detail: expect.stringContaining("has none") },
    });
  });
});

describe("an image that the device refuses", () => {
  it("leaves the old build when it is no image at all", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild, compression: "deflate" });
    const { result } = await flash(targetOf(device), { image: Buffer.from("not a firmware image") });
    await device.settled();
    expect(result).toMatchObject({ ok: false, failure: { kind: "device-refused", code: 0x84, effect: "none" } });
    expect(device.build).toEqual(oldBuild);
  });

  it("leaves the old build when it is too big", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const { result } = await flash(targetOf(device), { image: new Uint8Array(16 * 1024 * 1024 + 1) });
    await device.settled();
    expect(result).toMatchObject({ ok: false, failure: { kind: "device-refused", code: 0x81, effect: "none" } });
    expect(device.build).toEqual(oldBuild);
  });

  it("goes nowhere when the device wants encryption", async () => {
    await using device = await SimulatedDevice.start({
      build: oldBuild,
      encryption: { key: otaKey, isRequired: true },
    });
    const { result } = await flash(targetOf(device));
    expect(result).toMatchObject({ ok: false, failure: { kind: "encryption-required" } });
    expect(device.sessions.every((session) => session.announcedBytes === 0)).toBe(true);
  });
});
