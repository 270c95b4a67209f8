import { jetstreamManager } from "@nats-io/jetstream";
import { Objm } from "@nats-io/obj";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Connection } from "#bus/connection.ts";
import { digestOf } from "#actor/digest.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { objectName, objectStores } from "#protocol/names.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const stream = `OBJ_${objectStores.artifacts}`;
let server: TestServer;
let connection: Connection;
let store: ObjectStore;

beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  await declareTopology(connection);
  store = new ObjectStore(connection, objectStores.artifacts);
});
afterAll(() => server[Symbol.asyncDispose]());

const bytesOf = (text: string) => Buffer.from(text);
const rawStore = () => new Objm(connection).open(objectStores.artifacts);

async function lastSequence(): Promise<number> {
  return (await (await jetstreamManager(connection)).streams.info(stream)).state.last_seq;
}

test("bytes come back under their digest, also those of many chunks and of none", async () => {
  for (const bytes of [bytesOf("firmware"), Buffer.alloc(3_000_000, 7), Buffer.alloc(0)]) {
    const digest = digestOf(bytes);
    expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
    await store.put(digest, bytes);
    expect(await store.get(digest)).toMatchObject({ ok: true });
    const found = await store.get(digest);
    expect(found.ok && Buffer.from(found.bytes).equals(bytes)).toBe(true);
  }
});

test("what is there already is not written again", async () => {
  const bytes = bytesOf("once");
  await store.put(digestOf(bytes), bytes);
  const before = await lastSequence();
  await store.put(digestOf(bytes), bytes);
  expect(await lastSequence()).toBe(before);
});

test("a digest that was never stored, or whose object was deleted, is missing", async () => {
  expect(await store.get(digestOf(bytesOf("never")))).toEqual({ ok: false, found: "missing" });
  const bytes = bytesOf("deleted");
  const digest = digestOf(bytes);
  await store.put(digest, bytes);
  await (await rawStore()).delete(objectName(digest));
  expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
  expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
  await store.put(digest, bytes);
  expect(await store.get(digest)).toMatchObject({ ok: true });
});

test("another object under the digest's name is told by its own digest, and replaced by the next put", async () => {
  const [wanted, other] = [bytesOf("wanted"), bytesOf("others")];
  const digest = digestOf(wanted);
  await (await rawStore()).putBlob({ name: objectName(digest) }, other);
  expect(await store.get(digest)).toEqual({ ok: false, found: digestOf(other) });
  await store.put(digest, wanted);
  expect(await store.get(digest)).toMatchObject({ ok: true });
});

test("a chunk that is not what was stored makes the object corrupt", async () => {
  const bytes = bytesOf("pristine");
  const digest = digestOf(bytes);
  await store.put(digest, bytes);
  const info = await (await rawStore()).info(objectName(digest));
  const chunks = `$O.${objectStores.artifacts}.C.${info!.nuid}`;
  await (await jetstreamManager(connection)).streams.purge(stream, { filter: chunks });
  await connection.request(chunks, "tampered");
  expect(await store.get(digest)).toEqual({ ok: false, found: "corrupt" });
});

test("without a server the store is unavailable", async () => {
  const cut = await server.connect();
  await cut.close();
  const gone = new ObjectStore(cut, objectStores.artifacts);
  const digest = digestOf(bytesOf("x"));
  for (const work of [gone.get(digest), gone.put(digest, bytesOf("x"))]) {
    await expect(work).rejects.toThrow(UnavailableError);
  }
});
