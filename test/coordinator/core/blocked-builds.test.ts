/** Builds of an agent that a person does not trust any more. */
import { expect, test } from "vitest";
import { blockedBuilder, blocking, nothingBlocked, unblocking } from "#coordinator/core/blocked-builds.ts";
import { explain } from "#coordinator/core/explain.ts";
import { buildRecordOf, reusable } from "#coordinator/core/reuse.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { agentNamed, built, chainNumber, installRequest, jobIn } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const bad = agentNamed("bad");

/** A farm in which `bad` has built the first chain, and nobody flashes yet. */
function farmWithBuild(): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("bad");
  farm.submit(installRequest(1));
  farm.claim(1, "compile");
  farm.report(1, "compile", built());
  return farm;
}

function block(farm: TestFarm): void {
  const blocked = blocking(nothingBlocked, bad, [...farm.farm.chains.values()]);
  farm.farm = { ...farm.farm, knowledge: { ...noKnowledge, blocked } };
}

test("what a blocked agent has built is not flashed, says why, and is when the agent is trusted again", () => {
  const farm = farmWithBuild();
  block(farm);
  farm.uploadAgent("pi");
  expect(farm.job(1, "upload").state).toBe("queued");
  expect(explain(farm.farm, chainNumber(1), farm.at).join("\n")).toContain(
    "is not flashed: bad, which built it, is blocked",
  );
  const blocked = unblocking(farm.farm.knowledge.blocked, bad);
  farm.farm = { ...farm.farm, knowledge: { ...noKnowledge, blocked } };
  farm.pass(1);
  expect(farm.job(1, "upload").state).toBe("dispatched");
});

test("an upload of the same images is held back as well, and one of other images is not", () => {
  const farm = farmWithBuild();
  const chain = farm.farm.chains.get(chainNumber(1))!;
  block(farm);
  const { knowledge } = farm.farm;
  const upload = (manifest: ArtifactManifest) => {
    const job = jobIn(chain, "upload") as Extract<ReturnType<typeof jobIn>, { name: "upload" }>;
    return { ...chain, compile: undefined, upload: { ...job, spec: { ...job.spec, manifest } } };
  };
  const { manifest } = built() as Extract<ReturnType<typeof built>, { kind: "built" }>;
  expect(blockedBuilder(upload(manifest), knowledge.blocked)).toBe("bad");
  const images = manifest.images.map((image) => ({ ...image, digest: "f".repeat(64) as typeof image.digest }));
  expect(blockedBuilder(upload({ ...manifest, images }), knowledge.blocked)).toBeUndefined();
});

test("a build of a blocked agent serves no equal request", () => {
  const farm = farmWithBuild();
  const record = buildRecordOf(farm.farm.chains.get(chainNumber(1))!)!;
  const knowledge = { ...noKnowledge, builds: new Map([[record.key, record]]) };
  expect(reusable(knowledge, record.key, record.builtAt)?.agent).toBe("bad");
  const blocked = blocking(nothingBlocked, bad, []);
  expect(reusable({ ...knowledge, blocked }, record.key, record.builtAt)).toBeUndefined();
});
