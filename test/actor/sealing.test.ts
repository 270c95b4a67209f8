import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { assert, property, string } from "fast-check";
import { expect, test } from "vitest";
import { isSealed, open, seal } from "#actor/sealing.ts";

const keys = (): { key: KeyObject; raw: string } => {
  const { privateKey } = generateKeyPairSync("x25519");
  return { key: privateKey, raw: createPublicKey(privateKey).export({ format: "jwk" }).x ?? "" };
};
const reader = keys();

test("what is sealed to a reader opens for that reader, whatever it says, and is never the same twice", () => {
  assert(
    property(string({ unit: "grapheme" }), (text) => {
      const sealed = seal(reader.raw, text, "test");
      expect(isSealed(sealed)).toBe(true);
      expect(open(reader.key, sealed, "test")).toBe(text);
      expect(seal(reader.raw, text, "test")).not.toBe(sealed);
    }),
  );
});

test("it opens for nobody else, for no other purpose, and not when a character was changed", () => {
  const sealed = seal(reader.raw, "hunter2 hunter2", "test");
  expect(sealed).not.toContain("hunter2");
  expect(open(keys().key, sealed, "test")).toBeUndefined();
  expect(open(reader.key, sealed, "other")).toBeUndefined();
  const bytes = Buffer.from(sealed.slice("fys1.".length), "base64url");
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = Buffer.from(bytes);
    // The highest bit of the public key means nothing (RFC 7748, section 5); it is in the key all the same.
    changed[at]! ^= 0x80;
    expect(open(reader.key, `fys1.${changed.toString("base64url")}`, "test"), `byte ${at}`).toBeUndefined();
  }
});

test.each(["", "hunter2", "fys1.", "fys1.AAAA", `fys1.${"A".repeat(200)}`, "fys2.AAAA"])("%j is not opened", (text) => {
  expect(open(reader.key, text, "test")).toBeUndefined();
});
