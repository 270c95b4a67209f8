/** A farm with real processes flashes what its agents have signed, says who built it, and leaves what was changed since. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { Bucket } from "#bus/bucket.ts";
import { ChainStore } from "#bus/chain-store.ts";
import type { Connection } from "#bus/connection.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import type { Chain } from "#protocol/chain.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { encode } from "#protocol/envelope.ts";
import { ChainId } from "#protocol/ids.ts";
import { buckets, keySubject } from "#protocol/names.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import { RealFarm } from "#test/support/real-farm.ts";

let farm: RealFarm;
let lamp: RealDevice;
/** Whoever may write to the farm's records. */
let writer: Connection;
let builds: readonly Chain[];

beforeAll(async () => {
  farm = await RealFarm.start({ compile: 1 });
  lamp = await farm.device("lamp");
  writer = await farm.connect();
  for (const edition of [1, 2]) {
    const file = await farm.write(lamp, { edition });
    const end = await farm.run("install", file, "--device", lamp.address, "--confirm", "--confirm-after", "1");
    expect(end, end.err).toMatchObject({ code: 0 });
  }
  const history = new Bucket(writer, buckets.history, StoredChain);
  const limits = { everyMs: 100, withinMs: 20_000 };
  const ended = await poll(systemClock, limits, async () => {
    const all = await history.all();
    return all.length === 2 ? all : undefined;
  });
  builds = (ended ?? []).toSorted((a, b) => (a.id < b.id ? -1 : 1));
});
afterAll(async () => {
  await writer?.close();
  await farm[Symbol.asyncDispose]();
});

function manifestOf(chain: Chain | undefined): ArtifactManifest {
  const outcome = chain?.compile?.outcome;
  if (outcome?.kind !== "built") throw new Error(`nothing was built: ${JSON.stringify(chain)}`);
  return outcome.manifest;
}

/** The newer build's manifest, with the older build's images in it: both are in the store, and whole. */
function forged(): ArtifactManifest {
  return { ...manifestOf(builds[1]), images: manifestOf(builds[0]).images };
}

const put = (bucket: string, chain: Chain) => writer.request(keySubject(bucket, chain.id), encode(chain));

test("what was built says who built it from what, by its configuration, its chain and its file", async () => {
  const [older, newer] = builds;
  const byName = await farm.run("artifact", "verify", "lamp", older?.id ?? "");
  expect([byName.code, byName.err]).toEqual([0, ""]);
  expect(byName.out).toMatch(/^lamp: holds$/m);
  expect(byName.out).toMatch(/built by +build-1 \(U[A-Z2-7]{55}, its key\), flashyard \d/);
  expect(byName.out).toMatch(new RegExp(`from +bundle ${newer?.compile?.spec.bundle ?? ""}`));
  expect(byName.out).toContain(`chain ${older?.id ?? ""}, attempt 1`);
  const built = await farm.run("build", "lamp.yaml", "-o", "images");
  expect(built, built.err).toMatchObject({ code: 0 });
  const [image] = manifestOf(newer).images;
  const byFile = await farm.run("artifact", "verify", join("images", image?.name ?? ""), "--json");
  expect(JSON.parse(byFile.out)).toMatchObject({ isHolding: true, statement: { agent: "build-1" }, faults: [] });
  await writeFile(join(farm.configurations, "images", "other.bin"), "no image of the farm");
  const other = await farm.run("artifact", "verify", "images/other.bin");
  expect([other.code, other.err]).toEqual([2, expect.stringContaining("other.bin")]);
});

test("a manifest that was changed in a record that waits is not flashed", async () => {
  const flashes = lamp.flashes().length;
  expect((await farm.run("drain", "flash-1")).code).toBe(0);
  const args = ["upload", "lamp.yaml", "--device", lamp.address, "--from", builds[1]?.id ?? "", "--detach", "--json"];
  const asked = await farm.run(...args);
  expect(asked, asked.err).toMatchObject({ code: 0 });
  const id = ChainId.parse((JSON.parse(asked.out) as { chains: { chain: string }[] }).chains[0]?.chain);
  const live = (await new ChainStore(writer).load()).chains.find((chain) => chain.id === id);
  if (live?.upload === undefined) throw new Error(`nothing waits: ${asked.out}`);
  const { upload } = live;
  await put(buckets.chains, { ...live, upload: { ...upload, spec: { ...upload.spec, manifest: forged() } } });
  const logs = farm.cli(["logs", id, "-f"]);
  expect((await farm.run("undrain", "flash-1")).code).toBe(0);
  const end = await logs.end();
  expect(end.out + end.err).toContain("its provenance is that of another artifact");
  expect(lamp.flashes()).toHaveLength(flashes);
  expect(await lamp.runs()).toBe(2);
});

test("a manifest that was changed in the history is refused at once, and `artifact verify` says so", async () => {
  const [, newer] = builds;
  if (newer?.compile?.outcome?.kind !== "built") throw new Error("nothing was built");
  const outcome = { ...newer.compile.outcome, manifest: forged() };
  await put(buckets.history, { ...newer, compile: { ...newer.compile, outcome } });
  const flashes = lamp.flashes().length;
  const verified = await farm.run("artifact", "verify", newer.id);
  expect([verified.code, verified.out]).toEqual([1, expect.stringMatching(/does NOT hold[^]*of another artifact/)]);
  const upload = await farm.run("upload", "lamp.yaml", "--device", lamp.address, "--from", newer.id);
  expect([upload.code, upload.err]).toEqual([2, expect.stringContaining("its provenance is that of another artifact")]);
  expect(lamp.flashes()).toHaveLength(flashes);
});
