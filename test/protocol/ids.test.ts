/** Identities: what each may look like, and that chain ids sort by the instant of their making. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  AgentId,
  BootId,
  ChainId,
  chainIdFrom,
  Configuration,
  Digest,
  everyConfiguration,
  jobRef,
  siblingIds,
} from "#protocol/ids.ts";

const bytes = fc.uint8Array({ minLength: 6, maxLength: 6 });
const instant = fc.integer({ min: 0, max: 32 ** 10 - 1 });

describe("a chain id", () => {
  test("is sixteen characters, ten of them the time", () => {
    expect(chainIdFrom(Date.UTC(2026, 9, 14), new Uint8Array([0, 1, 2, 29, 30, 31]))).toBe("01m4vvaw00012xyz");
    expect(chainIdFrom(0, new Uint8Array(6))).toBe("0000000000000000");
  });

  test("is one by its own schema, whatever the instant and the bytes", () => {
    fc.assert(
      fc.property(instant, bytes, (at, random) => {
        expect(ChainId.safeParse(chainIdFrom(at, random)).success).toBe(true);
      }),
    );
  });

  test("sorts by its time, also within a millisecond of another and over centuries", () => {
    fc.assert(
      fc.property(instant, instant, bytes, bytes, (a, b, randomA, randomB) => {
        fc.pre(a < b);
        expect(chainIdFrom(a, randomA) < chainIdFrom(b, randomB)).toBe(true);
      }),
    );
    expect(chainIdFrom(1_000, new Uint8Array([31, 31, 31, 31, 31, 31])) < chainIdFrom(1_001, new Uint8Array(6))).toBe(
      true,
    );
  });

  test.each([
    "",
    "01kdvdna0400000",
    "01kdvdna040000000",
    "01KDVDNA04000000",
    "01kdvdna0400000i",
    "01kdvdna0400000.",
    "01kdvdna04 00000",
  ])("is not %j", (text) => expect(ChainId.safeParse(text).success).toBe(false));
});

describe("the chains of one request", () => {
  const anyId = fc.tuple(instant, bytes).map(([at, random]) => chainIdFrom(at, random));
  const counts = fc.integer({ min: 1, max: 1_024 });

  test("start with its own, are as many as wanted, and are the same when it is repeated", () => {
    fc.assert(
      fc.property(anyId, counts, (first, count) => {
        const ids = siblingIds(first, count);
        expect(ids[0]).toBe(first);
        expect(new Set(ids).size).toBe(count);
        expect(siblingIds(first, count)).toEqual(ids);
        // A reset that finds fewer agents the second time names the first of the same chains.
        expect(siblingIds(first, 1)).toEqual(ids.slice(0, 1));
      }),
    );
    expect(siblingIds(ChainId.parse("01m4vvaw00000000"), 0)).toEqual([]);
  });

  test("are of its instant, and sort in their order", () => {
    fc.assert(
      fc.property(anyId, counts, (first, count) => {
        fc.pre(!first.endsWith("zzz", 13));
        const ids = siblingIds(first, count);
        for (const id of ids) expect(id.slice(0, 10)).toBe(first.slice(0, 10));
        expect(ids.toSorted()).toEqual(ids);
      }),
    );
  });

  test("count on through every digit of the random part, and over its end", () => {
    const after = (first: string) => siblingIds(ChainId.parse(first), 2)[1];
    expect(after("01m4vvaw00000000")).toBe("01m4vvaw00000001");
    expect(after("01m4vvaw0000000z")).toBe("01m4vvaw00000010");
    expect(after("01m4vvaw00000zzz")).toBe("01m4vvaw00001000");
    expect(after("01m4vvaw00zzzzzz")).toBe("01m4vvaw00000000");
  });
});

describe("an agent id", () => {
  test.each(["pi", "pi-4", "0", "a".repeat(63)])("may be %s", (text) =>
    expect(AgentId.safeParse(text).success).toBe(true),
  );
  test.each(["", "-pi", "Pi", "pi.4", "pi 4", "pi*", "pi>", "pi/4", "..", "pì", "pi\n", "a".repeat(64)])(
    "is not %j",
    (text) => expect(AgentId.safeParse(text).success).toBe(false),
  );
});

describe("a configuration", () => {
  test.each(["kitchen", "Küche", "my device_2.old", "温室", "1", "*"])("may be %s", (text) =>
    expect(Configuration.safeParse(text).success).toBe(true),
  );
  test.each(["", " kitchen", ".hidden", "../kitchen", "a/b", "a\\b", "a\nb", "a\u0000", "a*", "a>", "x".repeat(121)])(
    "is not %j, and the message says what it may be",
    (text) => {
      const parsed = Configuration.safeParse(text);
      expect(parsed.success).toBe(false);
      expect(parsed.error?.issues[0]?.message).toMatch(/a configuration is named with/);
    },
  );
});

test("every configuration is one word that no file can have, and nothing beside it is a pattern", () => {
  expect(everyConfiguration).toBe("*");
  for (const text of ["**", "* ", " *", "*.yaml", "a*", ">"]) expect(Configuration.safeParse(text).success).toBe(false);
});

test("a digest is 64 lower-case hexadecimal digits", () => {
  expect(Digest.safeParse("0123456789abcdef".repeat(4)).success).toBe(true);
  for (const text of ["", "0".repeat(63), "0".repeat(65), "A".repeat(64), "g".repeat(64)]) {
    expect(Digest.safeParse(text).success).toBe(false);
  }
});

test("a boot is eight to 32 lower-case letters and digits", () => {
  expect(BootId.safeParse("0a1b2c3d").success).toBe(true);
  for (const text of ["short", "UPPERCASE", "with-dash-in", "x".repeat(33)])
    expect(BootId.safeParse(text).success).toBe(false);
});

test("a job is written as its chain and its name", () => {
  expect(jobRef(chainIdFrom(0, new Uint8Array(6)), "upload")).toBe("0000000000000000.upload");
});
