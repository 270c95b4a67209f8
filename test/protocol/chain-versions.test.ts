/** Records of every version are read as what they meant. */
import { describe, expect, test } from "vitest";
import { isFinished } from "#protocol/chain.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { emptyFarm } from "#coordinator/core/farm.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import { recordCorpus } from "#test/support/record-corpus.ts";

function read(version: string, name: string) {
  const record = recordCorpus.find((entry) => entry.version === version && entry.name === name);
  const decoded = decode(StoredChain, record!.bytes);
  if (!decoded.ok) throw decoded.error;
  return decoded.value;
}

test("there are records of every version", () => {
  const versions = new Set(recordCorpus.map(({ version }) => version));
  expect([...versions].sort()).toEqual(["v0", "v1", "v2"]);
  expect(recordCorpus.length).toBeGreaterThan(25);
});

test.each(recordCorpus)("$version $name is a sound chain of the present version", ({ bytes }) => {
  const decoded = decode(StoredChain, bytes);
  if (!decoded.ok) throw decoded.error;
  expect(decoded.value.v).toBe(2);
  expect(checkFarm({ ...emptyFarm, chains: new Map([[decoded.value.id, decoded.value]]) })).toEqual([]);
});

test("a chain of version 1 keeps every field", () => {
  const record = recordCorpus.find(({ name }) => name === "install-to-be-probed");
  expect(read("v1", "install-to-be-probed")).toEqual({
    ...(JSON.parse(new TextDecoder().decode(record!.bytes)) as object),
    v: 2,
  });
});

describe("a fused install", () => {
  test("that has not begun becomes a build and a held upload", () => {
    const chain = read("v0", "fused-queued");
    expect(chain).toMatchObject({ kind: "install", compile: { state: "queued" }, upload: { state: "held" } });
    expect(chain.upload?.spec.target).toMatchObject({ host: "kitchen.local" });
  });

  test("that had begun has left its device in a state that nobody knows", () => {
    const chain = read("v0", "fused-running");
    expect(chain).toMatchObject({ kind: "upload", upload: { state: "unknown" } });
    expect(isFinished(chain)).toBe(true);
  });

  test.each(["succeeded", "failed", "cancelled"])("that has %s is history", (state) => {
    const chain = read("v0", `fused-${state}`);
    expect(chain.upload?.state).toBe(state);
    expect(isFinished(chain)).toBe(true);
  });
});

test("a record of a later version, or of none, is refused and not guessed at", () => {
  const chain = read("v1", "install-queued");
  for (const record of [{ ...chain, v: 3 }, { ...chain, v: undefined }, { v: 0, type: "install" }, [], "text", null]) {
    expect(decode(StoredChain, encode(record)).ok).toBe(false);
  }
});
