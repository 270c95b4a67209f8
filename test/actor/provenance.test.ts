/** Who built what: a statement holds for one artifact and one key, and the farm's word for one flash. */
import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { createUser, fromSeed } from "@nats-io/nkeys";
import { describe, expect, test } from "vitest";
import { signingKeyOf, verifyingKeyOf } from "#actor/nkey.ts";
import { digestOfManifest, digestOfSpec, isVouchedFor, readStatement, signVouch } from "#actor/provenance.ts";
import { buildSigner } from "#bus/identity/build-signer.ts";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { UserKey } from "#protocol/pairing.ts";
import { preAuthentication, Statement, type Vouch } from "#protocol/provenance.ts";
import {
  agentNamed,
  buildSpec,
  chainNumber,
  configurationNamed,
  digestNumber,
  manifestOfBuild,
} from "#test/support/farm-builders.ts";

const seedOf = (key = createUser()) => new TextDecoder().decode(key.getSeed());

function statementOf(manifest: ArtifactManifest): Omit<Statement, "user"> {
  return {
    v: 1,
    manifest: digestOfManifest(manifest),
    bundle: digestNumber(1),
    spec: digestOfSpec(buildSpec()),
    driver: "esphome",
    configuration: configurationNamed("lamp"),
    chain: chainNumber(1),
    attempt: 1,
    agent: agentNamed("build-1"),
    farmVersion: "0.1.0",
    builtAt: 1_790_000_000_000,
  };
}

const bare = manifestOfBuild("one");
const sign = buildSigner({ seed: seedOf() });
const signed: ArtifactManifest = { ...bare, provenance: sign(statementOf(bare)) };
const faultOf = (manifest: ArtifactManifest) => {
  const read = readStatement(manifest);
  return read.ok ? "holds" : read.fault;
};
const rewritten = (change: (statement: Record<string, unknown>) => object): ArtifactManifest => {
  const { statement = "", signature = "" } = signed.provenance ?? {};
  const changed = JSON.stringify(change(JSON.parse(statement) as Record<string, unknown>));
  return { ...signed, provenance: { statement: changed, signature } };
};

describe("an NKey", () => {
  test("signs and checks in node as in NATS's own library", () => {
    const key = createUser();
    const text = new TextEncoder().encode("firmware");
    const user = UserKey.parse(key.getPublicKey());
    expect(verify(null, text, verifyingKeyOf(user), key.sign(text))).toBe(true);
    const own = createPublicKey(signingKeyOf(seedOf(key)));
    expect(own.export({ format: "jwk" })).toEqual(verifyingKeyOf(user).export({ format: "jwk" }));
    expect(fromSeed(key.getSeed()).getPublicKey()).toBe(user);
  });
});

describe("a statement", () => {
  test("holds for its artifact, also when that has been decoded and written in another order", () => {
    expect(readStatement(signed)).toMatchObject({ ok: true, statement: statementOf(bare) });
    const stored = JSON.parse(JSON.stringify(signed)) as Record<string, unknown>;
    const turned = Object.fromEntries(Object.entries(stored).toReversed());
    expect(faultOf(ArtifactManifest.parse(turned))).toBe("holds");
  });

  test("holds no more when any of its fields is changed", () => {
    const { statement = "" } = signed.provenance ?? {};
    const names = Object.keys(JSON.parse(statement) as object);
    expect(names).toEqual(Object.keys(Statement.shape).toSorted());
    for (const name of names) {
      const changed = (value: unknown) => (typeof value === "number" ? value + 1 : `${String(value)}x`);
      const tampered = rewritten((found) => ({ ...found, [name]: changed(found[name]) }));
      expect([name, faultOf(tampered)]).toEqual([name, "not-genuine"]);
      expect([name, faultOf(rewritten(({ [name]: _gone, ...rest }) => rest))]).toEqual([name, "not-genuine"]);
    }
    expect(faultOf(rewritten((found) => ({ ...found, driver: "command" })))).toBe("not-genuine");
    expect(faultOf(rewritten((found) => ({ ...found, more: 1 })))).toBe("not-genuine");
  });

  test("holds for no other manifest: not one with other images, roles, offsets, versions or names", () => {
    const [image] = signed.images;
    if (image === undefined) throw new Error("the build has no image");
    const others: readonly Partial<ArtifactManifest>[] = [
      { images: [{ ...image, digest: digestNumber(9) }] },
      { images: [{ ...image, role: "factory" }] },
      { images: [{ ...image, offset: 65_536 }] },
      { images: [{ ...image, name: "other.bin" }] },
      { images: [image, image] },
      { platform: "esp8266" },
      { chip: "esp32c6" },
      { tool: { name: "esphome", version: "2026.9.0" } },
      { debug: [image] },
      { esphome: { name: "fan", configHash: "", buildTime: 1, buildTimeStr: "1", esphomeVersion: "2026.10.0" } },
    ];
    for (const other of others) expect(faultOf({ ...signed, ...other })).toBe("other-artifact");
  });

  test("that another key has signed, that is none, or that is not there, does not hold", () => {
    const other = buildSigner({ seed: seedOf() })(statementOf(bare));
    const { statement = "", signature = "" } = signed.provenance ?? {};
    expect(faultOf({ ...bare, provenance: { statement, signature: other.signature } })).toBe("not-genuine");
    expect(faultOf({ ...bare, provenance: { statement: "{", signature } })).toBe("not-genuine");
    const strange = rewritten((found) => ({ ...found, user: `U${"7".repeat(55)}` }));
    expect(faultOf(strange)).toBe("not-genuine");
    expect(faultOf(bare)).toBe("unsigned");
  });

  test("takes less than two kilobytes in a record, with the longest names", () => {
    const longest = statementOf(bare);
    const provenance = sign({
      ...longest,
      configuration: configurationNamed("k".repeat(100)),
      agent: agentNamed("a".repeat(40)),
    });
    expect(ArtifactManifest.safeParse({ ...bare, provenance }).success).toBe(true);
    expect(JSON.stringify(provenance).length).toBeLessThan(2_000);
  });
});

describe("the farm's word", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const vouch: Vouch = {
    agent: agentNamed("build-1"),
    user: UserKey.parse(createUser().getPublicKey()),
    manifest: digestNumber(1),
    chain: chainNumber(1),
    attempt: 1,
  };
  const word = signVouch(privateKey, vouch);

  test("is for one builder, one artifact and one attempt", () => {
    expect(isVouchedFor(publicKey, vouch, word)).toBe(true);
    const others: readonly Partial<Vouch>[] = [
      { agent: agentNamed("build-2") },
      { user: UserKey.parse(createUser().getPublicKey()) },
      { manifest: digestNumber(2) },
      { chain: chainNumber(2) },
      { attempt: 2 },
    ];
    for (const other of others) expect(isVouchedFor(publicKey, { ...vouch, ...other }, word)).toBe(false);
  });

  test("is no other farm's", () => {
    const other = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
    expect(isVouchedFor(other.publicKey, vouch, word)).toBe(false);
    expect(isVouchedFor(publicKey, vouch, signVouch(other.privateKey, vouch))).toBe(false);
  });
});

test("what is signed says its type and its length in bytes", () => {
  expect(new TextDecoder().decode(preAuthentication("a/b", "grün"))).toBe("DSSEv1 3 a/b 5 grün");
});
