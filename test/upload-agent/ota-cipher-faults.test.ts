/** Every fault inside of the cipher, and the end of the connection at every byte: what is reported, and the device's true state. */
import { describe, expect, it } from "vitest";
import { type Effect, effectOf, retryOf } from "#protocol/failure.ts";
import { type DeviceOptions, SimulatedDevice } from "#simulator/device.ts";
import { imageOf } from "#simulator/device-image.ts";
import type { Fault, FrameFlaw, Step } from "#simulator/ota-fault.ts";
import { flash, newBuild, newImage, oldBuild, otaKey, password, targetOf } from "#test/support/simulated-flash.ts";

type Report = readonly [kind: string, effect: Effect, build: "old" | "new"];

/** What a flawed frame is called while nothing has been sent; who waits in vain has two limits. */
const kindOfFlaw: Readonly<Record<FrameFlaw, string>> = {
  forged: "upload-interrupted",
  truncated: "upload-interrupted",
  stalled: "upload-interrupted",
  crawling: "upload-interrupted",
  oversize: "protocol",
  empty: "protocol",
  hollow: "protocol",
  unsealed: "protocol",
};
const breaks = { close: "upload-interrupted", reset: "upload-interrupted", silence: "upload-interrupted" } as const;
const withImage = (kind: string, act: Fault["act"]) => (keepsWaiting(act) ? "deadline" : kind);
const keepsWaiting = (act: Fault["act"]) => act === "silence" || act === "stalled" || act === "crawling";
const asciiOf = (text: string) => [...Buffer.from(text)];

const acts: readonly (readonly [Fault["act"], string])[] = [
  ...Object.entries(kindOfFlaw).map(([act, kind]) => [act as FrameFlaw, kind] as const),
  ...Object.entries(breaks).map(([act, kind]) => [act as keyof typeof breaks, kind] as const),
  ["flood", "protocol"],
  [[0x55], "protocol"],
  [[0x95], "protocol"],
  [[0xff], "device-refused"],
];

const inTheHandshake: readonly (readonly [name: string, fault: Fault, kind: string])[] = [
  ["answers with another key", { at: "handshake", act: "forged" }, "auth-rejected"],
  ["refuses", { at: "handshake", act: [0x01, ...asciiOf("Handshake error")] }, "auth-rejected"],
  ["refuses without a word", { at: "handshake", act: [0x01] }, "auth-rejected"],
  ["answers without content", { at: "handshake", act: [0x00] }, "protocol"],
  ["answers with too much", { at: "handshake", act: [0x00, ...asciiOf("x".repeat(100))] }, "protocol"],
  ["announces more than a handshake has", { at: "handshake", act: "oversize" }, "protocol"],
  ["answers with an empty frame", { at: "handshake", act: "empty" }, "protocol"],
  ["answers outside of a frame", { at: "handshake", act: "unsealed" }, "protocol"],
  ["closes inside of its frame", { at: "handshake", act: "truncated" }, "upload-interrupted"],
  ["stops inside of its frame", { at: "handshake", act: "stalled" }, "upload-interrupted"],
  ["says ten bytes a second", { at: "handshake", act: "crawling" }, "upload-interrupted"],
  ["closes", { at: "handshake", act: "close" }, "upload-interrupted"],
  ["resets", { at: "handshake", act: "reset" }, "upload-interrupted"],
  ["falls silent", { at: "handshake", act: "silence" }, "upload-interrupted"],
  ["floods", { at: "handshake", act: "flood" }, "protocol"],
];

const nameOf = (act: Fault["act"]) => (typeof act === "string" ? act : `answers ${act.join(" ")}`);
const beforeTheImage = (["nonce", "authenticated", "prepared", "checksum"] as const).flatMap((at) =>
  acts.map(([act, kind]) => [`${nameOf(act)} at ${at}`, { at, act }, [kind, "none", "old"]] as const),
);
const duringTheImage = [1, 30_000, newImage.length].flatMap((afterBytes) =>
  acts.map(([act, kind]) => {
    const report: Report =
      kind === "device-refused" ? [kind, "none", "old"] : [withImage(kind, act), "uncertain", "old"];
    return [`${nameOf(act)} after ${afterBytes} bytes`, { at: "block", act, afterBytes }, report] as const;
  }),
);
const afterTheImage = (["received", "committed"] as const satisfies readonly Step[]).flatMap((at) =>
  [false, true].flatMap((commits) =>
    acts
      // A device that reports an error has not taken the image.
      .filter(([, kind]) => !commits || kind !== "device-refused")
      .map(([act, kind]) => {
        const build = commits ? "new" : "old";
        const report: Report =
          kind === "device-refused" ? [kind, "none", build] : [withImage(kind, act), "uncertain", build];
        return [`${nameOf(act)} at ${at}, ${commits ? "taken" : "not taken"}`, { at, act, commits }, report] as const;
      }),
  ),
);

const keyed = (device: SimulatedDevice) =>
  ({ ...targetOf(device), encryption: "require", encrypted: true, encryptionKey: otaKey }) as const;

async function checkFault(version: number, fault: Fault, [kind, effect, build]: Report): Promise<void> {
  await using device = await SimulatedDevice.start({
    build: oldBuild,
    version,
    encryption: { key: otaKey },
    password: { method: "sha256", text: password, inCipher: true },
    fault,
  });
  const { result } = await flash(
    keyed(device),
    keepsWaiting(fault.act) ? { limits: { connectMs: 2_000, handshakeMs: 500, silenceMs: 500, lastWordMs: 100 } } : {},
  );
  await device.settled();
  if (result.ok) throw new Error("the fault went unnoticed");
  const { failure } = result;
  expect({ kind: failure.kind, effect: effectOf(failure), build: device.build }).toEqual({
    kind,
    effect,
    build: build === "new" ? newBuild : oldBuild,
  });
  if (retryOf(failure) !== "never") expect(device.image).toBeUndefined();
}

describe.each([1, 2])("a device of version %i that, in the handshake of the cipher,", (version) => {
  it.concurrent.each(inTheHandshake)("%s", async (_name, fault, kind) => {
    await checkFault(version, fault, [kind, "none", "old"]);
  });
});

describe.each([1, 2])("a device of version %i that, inside of the cipher,", (version) => {
  it.concurrent.each([...beforeTheImage, ...duringTheImage, ...afterTheImage])("%s", async (_name, fault, report) => {
    await checkFault(version, fault, report);
  });

  it("sends a nonce without an end is left", async () => {
    const endless = [0x02, ...asciiOf("a".repeat(120))];
    await checkFault(version, { at: "nonce", act: endless }, ["protocol", "none", "old"]);
  });
});

describe.each([
  ["in plaintext", false],
  ["through a cipher", true],
])("a device that hangs up %s", (_name, isEncrypted) => {
  const image = imageOf(newBuild, 2_000);

  /** Flashes a device that hangs up there. @returns whether the flash went through all the same. */
  async function hungUp(hangUp: DeviceOptions["hangUp"], version: number): Promise<boolean> {
    const encryption = { key: otaKey };
    await using device = await SimulatedDevice.start({
      build: oldBuild,
      version,
      ...(hangUp === undefined ? {} : { hangUp }),
      ...(isEncrypted ? { encryption } : { password: { method: "sha256" as const, text: password } }),
    });
    const { result, events } = await flash(isEncrypted ? keyed(device) : targetOf(device), { image });
    await device.settled();
    const isNew = device.build !== oldBuild;
    const hasSent = events.some((event) => event.kind === "progress");
    if (result.ok) expect([isNew, hasSent], JSON.stringify(hangUp)).toEqual([true, true]);
    else {
      const { kind } = result.failure;
      const effect = effectOf(result.failure);
      expect(kind, JSON.stringify(hangUp)).toBe("upload-interrupted");
      // `none` is a promise, `uncertain` leaves both open; which of them it is follows from the bytes that were sent.
      if (effect === "none") expect([isNew, hasSent, device.image]).toEqual([false, false, undefined]);
      else expect(effect).toBe("uncertain");
      if (isNew || hasSent) expect(effect).toBe("uncertain");
    }
    return result.ok;
  }

  it.each([1, 2])("after any number of bytes of its own is reported as it is (version %i)", async (version) => {
    let bytes = 0;
    while (!(await hungUp({ afterSentBytes: bytes }, version))) bytes++;
    expect(bytes).toBeGreaterThan(isEncrypted ? 150 : 70);
  });

  it.each([1, 2])("after any number of bytes of the client is reported as it is (version %i)", async (version) => {
    let bytes = 1;
    // Each byte up to the image, and after that each part of a frame.
    while (!(await hungUp({ afterReceivedBytes: bytes }, version))) bytes += bytes < 330 ? 1 : 97;
    expect(bytes).toBeGreaterThan(2_000);
  });
});
