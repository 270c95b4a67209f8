/** Which builds a farm with identity takes, and for which builders it gives its word. */
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { createUser } from "@nats-io/nkeys";
import { beforeEach, expect, test } from "vitest";
import type { KeyHolder } from "#actor/coordinator-ports.ts";
import { silentLog } from "#actor/log.ts";
import { digestOfManifest, digestOfSpec, isVouchedFor, signVouch } from "#actor/provenance.ts";
import { buildSigner } from "#bus/identity/build-signer.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import type { ChainId } from "#protocol/ids.ts";
import { UserKey } from "#protocol/pairing.ts";
import type { BuilderStanding, Statement } from "#protocol/provenance.ts";
import { BuilderDesk } from "#coordinator/builder-desk.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import {
  agentNamed,
  bootNumber,
  buildRequest,
  buildSpec,
  chainNumber,
  configurationNamed,
  digestNumber,
  manifestOfBuild,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
const identity: Pick<KeyHolder, "vouch"> = {
  vouch: (vouch) => signVouch(privateKey, vouch),
};
const builder = agentNamed("builder");
const key = createUser();
const user = UserKey.parse(key.getPublicKey());
const sign = buildSigner({ seed: new TextDecoder().decode(key.getSeed()) });
const bare = manifestOfBuild("one");

let farm: TestFarm;
let standing: BuilderStanding;
let desk: BuilderDesk;
let chain: ChainId;

beforeEach(() => {
  standing = "paired";
  const registry = {
    builderStanding: (agent: string, shown: string) => (agent === builder && shown === user ? standing : "unknown"),
  };
  desk = new BuilderDesk(identity, registry, silentLog);
  farm = new TestFarm();
  farm.compileAgent(builder);
  const request = buildRequest(1);
  chain = request.id;
  farm.submit(request);
});

function signed(change: Partial<Statement> = {}, manifest = bare): ArtifactManifest {
  const record = farm.farm.chains.get(chain);
  const spec = record?.compile?.spec ?? buildSpec();
  const provenance = sign({
    v: 1,
    manifest: digestOfManifest(manifest),
    bundle: spec.bundle,
    spec: digestOfSpec(spec),
    driver: spec.driver,
    configuration: record?.configuration ?? configurationNamed("lamp"),
    chain,
    attempt: 1,
    agent: builder,
    farmVersion: "0.1.0",
    builtAt: 1,
    ...change,
  });
  return { ...manifest, provenance };
}

function reported(manifest: ArtifactManifest, agent = builder): FarmEvent {
  const from = { agent, boot: bootNumber(1), chain, job: "compile" as const, attempt: 1, answerTo: 1 };
  return { kind: "job-reported", result: { kind: "built", manifest, buildMs: 1 }, ...from };
}

function faultOf(event: FarmEvent, of = desk): unknown {
  const checked = of.checked(farm.farm, event);
  if (checked === event) return "taken";
  const result = checked.kind === "job-reported" ? checked.result : undefined;
  return result?.kind === "failed" && result.failure.kind === "provenance-refused" ? result.failure.fault : result;
}

test("a build counts with the statement of the agent that reports it, made for this job", () => {
  expect(farm.farm.chains.get(chain)?.compile?.attempt).toBe(1);
  expect(faultOf(reported(signed()))).toBe("taken");
  expect(faultOf(reported(bare))).toBe("unsigned");
  expect(faultOf(reported({ ...signed(), platform: "esp8266" }))).toBe("other-artifact");
  expect(faultOf(reported(signed(), agentNamed("other")))).toBe("other-job");
});

test("a statement about another job, with whatever else it was built from, is not taken", () => {
  const others: readonly Partial<Statement>[] = [
    { chain: chainNumber(2) },
    { attempt: 2 },
    { bundle: digestNumber(7) },
    { spec: digestOfSpec(buildSpec("2026.9.0")) },
    { driver: "command" },
    { configuration: configurationNamed("other") },
    { agent: agentNamed("other") },
  ];
  for (const other of others) expect([other, faultOf(reported(signed(other)))]).toEqual([other, "other-job"]);
});

test("a build by a key that was replaced is taken, one by a revoked or strange key is not", () => {
  const faults = { paired: "taken", former: "taken", revoked: "revoked-builder", unknown: "unknown-builder" } as const;
  for (const known of ["paired", "former", "revoked", "unknown"] as const) {
    standing = known;
    expect(faultOf(reported(signed()))).toBe(faults[known]);
  }
});

test("what is no build, what nobody waits for, and everything in an open farm stays as it was said", () => {
  const failed: FarmEvent = { ...reported(bare), result: { kind: "stopped" } } as FarmEvent;
  expect(faultOf(failed)).toBe("taken");
  const unknown = { ...reported(bare), chain: chainNumber(9) } as FarmEvent;
  expect(faultOf(unknown)).toBe("taken");
  const open = new BuilderDesk(undefined, { builderStanding: () => "unknown" }, silentLog);
  expect(faultOf(reported(bare), open)).toBe("taken");
  expect([open.faultOf(bare), open.wordFor(bare, chain, 1)]).toEqual([undefined, undefined]);
});

test("the farm vouches for a builder in one attempt, as long as it is one of its agents", () => {
  const manifest = signed();
  const word = desk.wordFor(manifest, chainNumber(5), 2);
  const vouch = { agent: builder, user, manifest: digestOfManifest(bare), chain: chainNumber(5), attempt: 2 };
  if (word === undefined || !("vouch" in word)) throw new Error(JSON.stringify(word));
  expect(isVouchedFor(createPublicKey(privateKey), vouch, word.vouch)).toBe(true);
  standing = "former";
  expect(desk.wordFor(manifest, chain, 1)).toHaveProperty("vouch");
  standing = "revoked";
  expect(desk.wordFor(manifest, chain, 1)).toEqual({ fault: "revoked-builder" });
  expect(desk.faultOf(manifest)).toBe("revoked-builder");
  expect(desk.wordFor(bare, chain, 1)).toEqual({ fault: "unsigned" });
});
