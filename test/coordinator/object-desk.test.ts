/** What agents get of the store of objects, in a farm with identity and over a real server. */
import { createPrivateKey, randomBytes } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { digestOf } from "#actor/digest.ts";
import type { Listening } from "#actor/coordinator-ports.ts";
import { silentLog } from "#actor/log.ts";
import type { Connection } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { newAgentSecrets, publicKeysOf } from "#bus/identity/agent-keys.ts";
import { keyHolder } from "#bus/identity/key-holder.ts";
import { agentAccess } from "#bus/object-asks.ts";
import { pieceBytes } from "#bus/object-layout.ts";
import { directAccess, ObjectStore } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { request } from "#bus/rpc.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { ObjectDesk } from "#coordinator/object-desk.ts";
import type { AgentId, Digest } from "#protocol/ids.ts";
import { objectStores, objectSubject } from "#protocol/names.ts";
import { ObjectAnswer } from "#protocol/objects.ts";
import type { SealKey } from "#protocol/pairing.ts";
import { agentNamed, buildRequest, uploadRequest } from "#test/support/farm-builders.ts";
import { type SecuredServer, securedServer } from "#test/support/secured-server.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const builder = agentNamed("builder");
const uploader = agentNamed("uploader");
let server: SecuredServer;
let coordinator: Connection;
let people: Connection;
const connections = new Map<AgentId, Connection>();
const secrets = new Map<AgentId, string>();
const sealKeys = new Map<AgentId, SealKey>();
let farm: Farm = emptyFarm;
let desk: ObjectDesk;
let listening: Listening;

beforeAll(async () => {
  server = await securedServer();
  coordinator = await server.signIn({ kind: "coordinator" });
  people = await server.signIn({ kind: "admin", name: "ann" });
  await declareTopology(coordinator);
  connections.set(builder, await server.signIn({ kind: "agent", agent: builder, lane: "compile" }));
  connections.set(uploader, await server.signIn({ kind: "agent", agent: uploader, lane: "upload" }));
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  for (const agent of [builder, uploader]) {
    const made = newAgentSecrets();
    secrets.set(agent, made.unseal);
    sealKeys.set(agent, publicKeysOf(made).seal);
  }
  farm = emptyFarm;
  listening?.stop();
  const ports = coordinatorPorts(coordinator, {}, await keyHolder(server.keys, coordinator.getServer()));
  desk = new ObjectDesk(
    ports,
    () => farm,
    (agent) => sealKeys.get(agent),
    silentLog,
  );
  listening = desk.listen();
});

const storeOf = (agent: AgentId, bucket: string, unseal = secrets.get(agent)!) =>
  new ObjectStore(connections.get(agent)!, bucket, undefined, agentAccess(agent, createPrivateKey(unseal)));
const peoplesStore = (bucket: string) =>
  new ObjectStore(
    people,
    bucket,
    undefined,
    directAccess(async (digest) => {
      const answer = desk.secretOf(bucket === objectStores.bundles ? "bundles" : "artifacts", digest);
      if (answer.kind !== "content-secret") throw new Error(JSON.stringify(answer));
      return Buffer.from(answer.secret, "base64");
    }),
  );
const ask = (agent: AgentId, message: object) =>
  request(connections.get(agent)!, objectSubject(agent), { v: 1, ...message }, ObjectAnswer, 2_000);

/** The builder has the build of a bundle in hand. */
function building(bundle: Digest): Farm {
  const started = new TestFarm();
  started.compileAgent(builder);
  const { build, ...request } = buildRequest(1);
  started.submit({ ...request, build: { ...build!, bundle } });
  return started.farm;
}

/** The uploader has the flash of an image in hand. */
function flashing(image: Digest): Farm {
  const started = new TestFarm();
  started.uploadAgent(uploader);
  const { upload, ...request } = uploadRequest(1);
  const manifest = upload!.manifest!;
  const images = [{ ...manifest.images[0]!, digest: image }];
  started.submit({ ...request, upload: { ...upload!, manifest: { ...manifest, images } } });
  return started.farm;
}

async function bundleOfPeople(): Promise<{ digest: Digest; bytes: Buffer }> {
  const bytes = randomBytes(2 * pieceBytes + 17);
  const digest = digestOf(bytes);
  await peoplesStore(objectStores.bundles).put(digest, bytes);
  return { digest, bytes };
}

test("a builder gets the bundle of its job, and no other", async () => {
  const mine = await bundleOfPeople();
  const other = await bundleOfPeople();
  farm = building(mine.digest);
  const got = await storeOf(builder, objectStores.bundles).get(mine.digest);
  expect(got.ok && mine.bytes.equals(got.bytes)).toBe(true);
  const wish = storeOf(builder, objectStores.bundles).get(other.digest);
  await expect(wish).rejects.toThrow(`${other.digest} is not the business of builder`);
  await expect(storeOf(uploader, objectStores.bundles).get(mine.digest)).rejects.toThrow("not the business");
});

test("what is stored is readable for nobody but who gets its key, sealed to their own", async () => {
  const text = "wifi_password: correct horse battery staple ";
  const bytes = Buffer.from(text.repeat(200));
  const digest = digestOf(bytes);
  await peoplesStore(objectStores.bundles).put(digest, bytes);
  farm = building(digest);
  const manager = await jetstreamManager(coordinator);
  const stream = `OBJ_${objectStores.bundles}`;
  const { state } = await manager.streams.info(stream, { subjects_filter: `$O.fy_bundles.C.*.${digest}.>` });
  const [piece = ""] = Object.keys(state.subjects ?? {});
  const stored = (await manager.streams.getMessage(stream, { last_by_subj: piece }))!.data;
  expect(stored.length).toBeGreaterThan(28);
  for (const read of [Buffer.from(stored), Buffer.from(stored).subarray(12, -16)]) {
    expect(read.includes("battery")).toBe(false);
    expect(() => zstdDecompressSync(read)).toThrow();
  }
  const got = await storeOf(builder, objectStores.bundles).get(digest);
  expect(got.ok && bytes.equals(got.bytes)).toBe(true);
  const other = storeOf(builder, objectStores.bundles, secrets.get(uploader)!);
  await expect(other.get(digest)).rejects.toThrow("sealed to another agent");
  await expect(new ObjectStore(people, objectStores.bundles).get(digest)).rejects.toThrow("its key is not given out");
});

test("what lay there in the clear is stored anew", async () => {
  const bytes = randomBytes(1_000);
  const digest = digestOf(bytes);
  await new ObjectStore(people, objectStores.bundles).put(digest, bytes);
  expect((await peoplesStore(objectStores.bundles).get(digest)).ok).toBe(true);
  await peoplesStore(objectStores.bundles).put(digest, bytes);
  await expect(new ObjectStore(people, objectStores.bundles).get(digest)).rejects.toThrow("its key is not given out");
  expect((await peoplesStore(objectStores.bundles).get(digest)).ok).toBe(true);
});

test("what a hint has named may be fetched ahead, until two newer ones have come", async () => {
  const bundles = await Promise.all([bundleOfPeople(), bundleOfPeople(), bundleOfPeople()]);
  const store = storeOf(builder, objectStores.bundles);
  const [first, second, third] = bundles.map(({ digest }) => digest) as [Digest, Digest, Digest];
  desk.hinted(builder, { v: 1, bundle: first });
  expect((await store.get(first)).ok).toBe(true);
  desk.hinted(builder, { v: 1, bundle: second });
  expect((await store.get(first)).ok).toBe(true);
  desk.hinted(builder, { v: 1, bundle: third });
  await expect(store.get(first)).rejects.toThrow("not the business");
});

test("an image that a builder stores is read by the uploader that flashes it, and by people", async () => {
  const bundle = await bundleOfPeople();
  farm = building(bundle.digest);
  const image = randomBytes(pieceBytes + 5);
  const digest = digestOf(image);
  await storeOf(builder, objectStores.artifacts).put(digest, image);
  // Again: it is there, and nothing is sent.
  await storeOf(builder, objectStores.artifacts).put(digest, image);
  await expect(storeOf(uploader, objectStores.artifacts).get(digest)).rejects.toThrow("not the business");
  farm = flashing(digest);
  for (const store of [storeOf(uploader, objectStores.artifacts), peoplesStore(objectStores.artifacts)]) {
    const got = await store.get(digest);
    expect(got.ok && image.equals(got.bytes)).toBe(true);
  }
  // What an agent has sent goes with the object.
  await new ObjectStore(coordinator, objectStores.artifacts).remove([digest]);
  expect(await peoplesStore(objectStores.artifacts).get(digest)).toEqual({ ok: false, found: "missing" });
});

test("an agent has no say over what is not its own", async () => {
  const { digest } = await bundleOfPeople();
  const store = "artifacts";
  const theirs = `$O.fy_artifacts.C._.${digest}.1i1.>`;
  const refused = [
    { kind: "purge", store, filter: theirs },
    { kind: "purge", store, filter: "$O.fy_artifacts.C.>" },
    { kind: "purge", store, filter: "$O.fy_artifacts.C.builder2.>" },
    { kind: "purge", store, filter: "$O.fy_artifacts.M.>" },
    { kind: "purge", store: "bundles", filter: "$KV.fy_chains.>" },
    { kind: "subjects", store, filter: "$O.fy_artifacts.M.>" },
    { kind: "subjects", store, filter: ">" },
    { kind: "write-meta", store, digest, text: "{}" },
    { kind: "write-meta", store, digest, text: metaOf(digest, `_.${digest}.1i1.>`) },
    { kind: "write-meta", store, digest, text: metaOf(digest, `uploader.${digest}.1i1.>`) },
    // Its own name, and pieces that nobody has sent.
    { kind: "write-meta", store, digest, text: metaOf(digest, `builder.${digest}.1i1.>`) },
  ];
  for (const message of refused) {
    expect(await ask(builder, message), JSON.stringify(message)).toMatchObject({ kind: "refused", isPassing: false });
  }
  expect(await ask(builder, { kind: "nonsense" })).toMatchObject({ kind: "refused" });
});

function metaOf(digest: Digest, nuid: string): string {
  const metadata = {
    "content-digest": digest,
    "content-encoding": "identity",
    "content-bytes": "4",
    "piece-bytes": String(pieceBytes),
    "piece-checks": "00000000",
  };
  return JSON.stringify({ name: digest, bucket: "fy_artifacts", nuid, size: 4, chunks: 1, digest: "", metadata });
}
