import { expect, test } from "vitest";
import { hashOfCode, newJoinCode } from "#bus/identity/join-code.ts";
import { newAgentSecrets, publicKeysOf } from "#bus/identity/agent-keys.ts";
import { pairingWords } from "#bus/identity/pairing-words.ts";
import { joinLineOf, readJoinLine } from "#protocol/join-line.ts";

const pin = "0".repeat(64);

test("four words stand for the farm and both keys, and others for any other", () => {
  const { user, seal } = publicKeysOf(newAgentSecrets());
  const other = publicKeysOf(newAgentSecrets());
  const words = pairingWords(pin, user, seal);
  expect(words).toMatch(/^[a-z]+( [a-z]+){3}$/);
  expect(pairingWords(pin, user, seal)).toBe(words);
  const changed = [
    pairingWords("1".repeat(64), user, seal),
    pairingWords(pin, other.user, seal),
    pairingWords(pin, user, other.seal),
  ];
  for (const others of changed) expect(others).not.toBe(words);
});

test("the words of given keys do not change with the release: both sides may have another one", () => {
  expect(pairingWords(pin, `U${"A".repeat(55)}`, "s".repeat(43))).toMatchInlineSnapshot(`"broken search divide diet"`);
});

test("a code has 80 bits, none is like another, and the farm knows its hash", () => {
  const codes = new Set(Array.from({ length: 1_000 }, newJoinCode));
  expect(codes.size).toBe(1_000);
  for (const code of codes) expect(code).toMatch(/^[0-9a-hjkmnp-tv-z]{16}$/);
  expect(hashOfCode("code")).toMatch(/^[0-9a-f]{64}$/);
});

test("a line says what was put into it, also after it was pasted with spaces around", () => {
  const line = { servers: "tls://[fd00::1]:4222,tls://farm.lan:4222", pin, code: newJoinCode() };
  expect(joinLineOf(line)).toMatch(/^fyj1\.[A-Za-z0-9_-]+$/);
  expect(readJoinLine(`  ${joinLineOf(line)}\n`)).toEqual(line);
});
