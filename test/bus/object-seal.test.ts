import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { contentKey, contentSecret, openPiece, sealPiece } from "#bus/object-seal.ts";
import { digestNumber } from "#test/support/farm-builders.ts";

const farm = randomBytes(32);
const keyOf = (n: number) => contentKey(contentSecret(farm, "bundles", digestNumber(n)));
const body = Buffer.from("wifi_password: hunter2 hunter2 hunter2");

test("a piece opens with its key at its place, and is the same however often it is sealed", () => {
  const sealed = sealPiece(keyOf(1), "0.abcd", body);
  expect(openPiece(keyOf(1), "0.abcd", sealed)).toEqual(body);
  expect(sealPiece(keyOf(1), "0.abcd", body)).toEqual(sealed);
  expect(Buffer.from(sealed).includes("hunter2")).toBe(false);
  const empty = sealPiece(keyOf(1), "0.abcd", Buffer.alloc(0));
  expect(openPiece(keyOf(1), "0.abcd", empty)).toEqual(Buffer.alloc(0));
});

test("it opens with no other key, at no other place, and not when a bit was changed", () => {
  const sealed = sealPiece(keyOf(1), "0.abcd", body);
  expect(openPiece(keyOf(2), "0.abcd", sealed)).toBeUndefined();
  expect(openPiece(contentKey(contentSecret(farm, "artifacts", digestNumber(1))), "0.abcd", sealed)).toBeUndefined();
  expect(openPiece(keyOf(1), "1.abcd", sealed)).toBeUndefined();
  for (let at = 0; at < sealed.length; at += 1) {
    const changed = Buffer.from(sealed);
    changed[at]! ^= 1;
    expect(openPiece(keyOf(1), "0.abcd", changed), `byte ${at}`).toBeUndefined();
  }
  for (const length of [0, 11, 27]) expect(openPiece(keyOf(1), "0.abcd", sealed.subarray(0, length))).toBeUndefined();
});

test("two bodies never have the same nonce", () => {
  const nonces = Array.from({ length: 1_000 }, (_, n) =>
    sealPiece(keyOf(1), "0.abcd", Buffer.from(`${n}`)).slice(0, 12),
  );
  expect(new Set(nonces.map((nonce) => Buffer.from(nonce).toString("hex"))).size).toBe(1_000);
});
