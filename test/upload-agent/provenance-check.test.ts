/** What an upload agent of a farm with identity flashes, and what it leaves. */
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { createUser } from "@nats-io/nkeys";
import { expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { digestOfManifest, digestOfSpec, signVouch } from "#actor/provenance.ts";
import { buildSigner } from "#bus/identity/build-signer.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { effectOf, retryOf } from "#protocol/failure.ts";
import type { UploadDispatch } from "#protocol/messages.ts";
import { UserKey } from "#protocol/pairing.ts";
import { uploadHandler } from "#upload-agent/upload-job.ts";
import { agentNamed, buildSpec, chainNumber, digestNumber } from "#test/support/farm-builders.ts";
import { uploadDispatch } from "#test/support/lane-bench.ts";

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
const authority = createPublicKey(privateKey);
const builder = createUser();
const user = UserKey.parse(builder.getPublicKey());
const agent = agentNamed("build-1");
const plain = uploadDispatch(2, 3);

function signed(bare: ArtifactManifest, key = builder): ArtifactManifest {
  const sign = buildSigner({ seed: new TextDecoder().decode(key.getSeed()) });
  const provenance = sign({
    v: 1,
    manifest: digestOfManifest(bare),
    bundle: digestNumber(1),
    spec: digestOfSpec(buildSpec()),
    driver: "esphome",
    configuration: plain.configuration,
    // Built by another chain, as an artifact that is flashed again.
    chain: chainNumber(1),
    attempt: 1,
    agent,
    farmVersion: "0.1.0",
    builtAt: 1,
  });
  return { ...bare, provenance };
}

function vouched(manifest: ArtifactManifest, key = privateKey): UploadDispatch {
  const { chain, attempt } = plain;
  const vouch = signVouch(key, { agent, user, manifest: digestOfManifest(manifest), chain, attempt });
  return { ...plain, manifest, builder: { vouch } };
}

/** Which images it fetched, and how it ended. The store has nothing: that is as far as a proven one comes here. */
async function flashed(dispatch: UploadDispatch) {
  const fetched: string[] = [];
  const handler = uploadHandler({
    authority,
    artifacts: {
      get: async (digest) => {
        fetched.push(digest);
        return { ok: false, found: "missing" };
      },
    },
    clock: systemClock,
    openLog: () => ({ line: () => undefined, close: async () => undefined }),
    say: () => undefined,
  });
  const signal = new AbortController().signal;
  const claimFlash = async () => {
    throw new Error("a claim was asked for");
  };
  const result = await handler(dispatch, { signal, claimFlash, mayStart: () => true, release: async () => undefined });
  return { fetched, failure: result.kind === "failed" ? result.failure : undefined };
}

async function faultOf(dispatch: UploadDispatch): Promise<string> {
  const { fetched, failure } = await flashed(dispatch);
  if (failure?.kind !== "provenance-refused") return `fetched ${fetched.length}`;
  expect([fetched, retryOf(failure), effectOf(failure)]).toEqual([[], "never", "none"]);
  return failure.fault;
}

test("what an agent of the farm built is fetched, also for another chain than it was built for", async () => {
  expect(await faultOf(vouched(signed(plain.manifest)))).toBe("fetched 1");
});

test("what nobody signed, or somebody else, is not even fetched", async () => {
  expect(await faultOf(vouched(plain.manifest))).toBe("unsigned");
  expect(await faultOf(vouched(signed(plain.manifest, createUser())))).toBe("not-vouched");
  const [image] = plain.manifest.images;
  if (image === undefined) throw new Error("the build has no image");
  const changed = { ...signed(plain.manifest), images: [{ ...image, digest: digestNumber(8) }] };
  expect(await faultOf(vouched(changed))).toBe("other-artifact");
});

test("the farm's word for another attempt, another artifact, of another farm, or none, is not taken", async () => {
  const proven = vouched(signed(plain.manifest));
  expect(await faultOf({ ...proven, attempt: 4 })).toBe("not-vouched");
  expect(await faultOf({ ...proven, chain: chainNumber(3) })).toBe("not-vouched");
  const other = signed({ ...plain.manifest, platform: "esp8266" });
  expect(await faultOf({ ...proven, manifest: other })).toBe("not-vouched");
  const stranger = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  expect(await faultOf(vouched(signed(plain.manifest), stranger.privateKey))).toBe("not-vouched");
  const { builder: _word, ...unvouched } = proven;
  expect(await faultOf(unvouched)).toBe("not-vouched");
  expect(await faultOf({ ...proven, builder: { fault: "revoked-builder" } })).toBe("revoked-builder");
});
