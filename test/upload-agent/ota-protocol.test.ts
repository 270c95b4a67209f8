/** The protocol's bytes, against values worked out outside of this code. */
import { createHash } from "node:crypto";
import { gunzipSync, inflateRawSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { Failure } from "#protocol/failure.ts";
import { addressOfTarget } from "#protocol/job.ts";
import type { Ending } from "#upload-agent/device-connection.ts";
import { ended, refused, type Standing } from "#upload-agent/ota-failure.ts";
import { packImage } from "#upload-agent/ota-payload.ts";
import { bigEndian32, deviceErrorOf, hexByte, passwordProof } from "#upload-agent/ota-protocol.ts";

describe("the bytes of the protocol", () => {
  it("write a size with the most significant byte first", () => {
    expect([...bigEndian32(0x01020304)]).toEqual([1, 2, 3, 4]);
    expect([...bigEndian32(0xfffffffe)]).toEqual([0xff, 0xff, 0xff, 0xfe]);
  });

  it("prove a password over both nonces as text", () => {
    // printf 'pässwort0123abcd' | md5sum, and sha256sum
    expect(passwordProof("md5", "pässwort", "0123", "abcd")).toBe(
      createHash("md5").update(Buffer.from("70c3a47373776f72743031323361626364", "hex")).digest("hex"),
    );
    expect(passwordProof("sha256", "", "", "")).toBe(
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    );
  });

  it("are written as people write them", () => {
    expect([hexByte(0x8b), hexByte(5)]).toEqual(["0x8B", "0x05"]);
  });

  it("give every error code a meaning, and only a half-written boot chain a lasting effect", () => {
    const codes = Array.from({ length: 256 }, (_, byte) => byte);
    const known = codes.filter((byte) => deviceErrorOf(byte) !== undefined);
    expect(known).toEqual([...codes.slice(0x80, 0x95), 0xff]);
    expect(known.filter((byte) => deviceErrorOf(byte)?.effect === "partial")).toEqual([0x90, 0x92]);
  });
});

describe("an image on the wire", () => {
  const image = Buffer.from("firmware ".repeat(20_000));
  const md5 = (bytes: Uint8Array) => createHash("md5").update(bytes).digest("hex");

  it("is raw deflate within a window of 4 KiB, with the image's own checksum", async () => {
    const packed = await packImage(image, "deflate");
    expect(Buffer.compare(inflateRawSync(packed.wire, { windowBits: 12 }), image)).toBe(0);
    expect(packed.md5).toBe(md5(image));
  });

  it("is gzip with the checksum of the gzip file, which the device stores as it is", async () => {
    const packed = await packImage(image, "gzip");
    expect(Buffer.compare(gunzipSync(packed.wire), image)).toBe(0);
    expect(packed.md5).toBe(md5(packed.wire));
  });

  it("is itself where the device takes nothing else", async () => {
    const packed = await packImage(image, "none");
    expect(packed.wire).toBe(image);
    expect(packed.md5).toBe(md5(image));
  });
});

describe("what a failure says of the device", () => {
  const standing = (sentBytes: number): Standing => ({
    address: "lamp:3232",
    deadlineMs: 60_000,
    silenceMs: 160_000,
    phase: "sending",
    sentBytes,
    totalBytes: 1_000,
    cutBy: undefined,
  });
  const endings: readonly Ending[] = [
    { kind: "closed" },
    { kind: "broken", detail: "ECONNRESET" },
    { kind: "silent", limitMs: 160_000 },
    { kind: "flooded", unreadBytes: 2_000 },
    { kind: "cut" },
  ];

  it.each(endings)("is nothing before the first byte and open after it ($kind)", (ending) => {
    expect(Failure.parse(ended(standing(0), ending, undefined))).toMatchObject({ effect: "none" });
    expect(Failure.parse(ended(standing(1), ending, undefined))).toMatchObject({ effect: "uncertain" });
  });

  it.each(endings)("is the device's own word where there is one ($kind)", (ending) => {
    expect(ended(standing(1_000), ending, 0x8b)).toMatchObject({ kind: "device-refused", effect: "none" });
    expect(ended(standing(1_000), ending, 0x47)).toMatchObject({ effect: "uncertain" });
  });

  it("is not what happens to lie behind bytes that do not belong to the conversation", () => {
    const garbled = { kind: "garbled", detail: "it spoke outside of the cipher (0x00)" } as const;
    expect(ended(standing(0), garbled, 0x90)).toMatchObject({ kind: "protocol", effect: "none" });
    expect(ended(standing(1), garbled, 0x90)).toMatchObject({ kind: "protocol", effect: "uncertain" });
  });

  it("takes a refused password for what it is only before the image", () => {
    expect(refused(standing(0), 0x82)).toMatchObject({ kind: "auth-rejected" });
    expect(refused(standing(1), 0x82)).toMatchObject({ kind: "device-refused", effect: "none" });
  });

  it("names an address with colons so that its port can be told", () => {
    const target = { kind: "ota", port: 3232, encrypted: false, name: "lamp" } as const;
    expect(addressOfTarget({ ...target, host: "fe80::1" })).toBe("[fe80::1]:3232");
    expect(addressOfTarget({ ...target, host: "lamp.local" })).toBe("lamp.local:3232");
  });
});
