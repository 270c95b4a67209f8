/** Whatever is wrong in a bucket is told: never wrong bytes, and never a wait. */
import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { jetstreamManager } from "@nats-io/jetstream";
import { headers } from "@nats-io/nats-core";
import { Objm } from "@nats-io/obj";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestOf } from "#actor/digest.ts";
import type { Connection } from "#bus/connection.ts";
import { metaSubject, pieceBytes } from "#bus/object-layout.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import type { Digest } from "#protocol/ids.ts";
import { objectName, objectStores } from "#protocol/names.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const bucket = objectStores.artifacts;
const stream = `OBJ_${bucket}`;
let server: TestServer;
let home: TemporaryFolder;
let connection: Connection;
let store: ObjectStore;

beforeAll(async () => {
  [server, home] = await Promise.all([testServer(), temporaryFolder()]);
  connection = await server.connect();
  await declareTopology(connection);
  store = new ObjectStore(connection, bucket);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

const rawStore = () => new Objm(connection).open(bucket);

async function streams() {
  return (await jetstreamManager(connection)).streams;
}

async function pieces(digest: Digest): Promise<readonly string[]> {
  const filter = `$O.${bucket}.C._.${digest}.>`;
  return Object.keys((await (await streams()).info(stream, { subjects_filter: filter })).state.subjects ?? {}).sort();
}

async function replace(subject: string, body: Uint8Array | string): Promise<void> {
  await (await streams()).purge(stream, { filter: subject });
  await connection.request(subject, body);
}

/** The meta message of an object as somebody else might have written it. */
async function forge(digest: Digest, change: (meta: Record<string, unknown>) => object): Promise<void> {
  const found = await (await streams()).getMessage(stream, { last_by_subj: metaSubject(bucket, digest) });
  const rollup = headers();
  rollup.set("Nats-Rollup", "sub");
  const body = JSON.stringify(change(found!.json()));
  await connection.request(metaSubject(bucket, digest), body, { headers: rollup, timeout: 1_000 });
}

async function stored(content = randomBytes(3 * pieceBytes)): Promise<{ content: Buffer; digest: Digest }> {
  const digest = digestOf(content);
  await store.put(digest, content);
  return { content, digest };
}

async function expectFound(digest: Digest, found: string): Promise<void> {
  expect(await store.get(digest)).toEqual({ ok: false, found });
  expect(await store.getFile(digest, join(home.path, "target"))).toEqual({ ok: false, found });
  expect(await readdir(home.path)).toEqual([]);
}

describe("an object", () => {
  test("that has lost a piece is corrupt, and whole again after the next put", async () => {
    const { content, digest } = await stored();
    await (await streams()).purge(stream, { filter: (await pieces(digest))[1]! });
    expect(await store.has(digest)).toBe(false);
    await expectFound(digest, "corrupt");
    const before = connection.stats().outBytes;
    await store.put(digest, content);
    expect(connection.stats().outBytes - before).toBeLessThan(2 * pieceBytes);
    expect(await store.get(digest)).toMatchObject({ ok: true });
  });

  test("that has lost all of its pieces is corrupt, and whole again after the next put", async () => {
    const { content, digest } = await stored();
    await (await streams()).purge(stream, { filter: `$O.${bucket}.C._.${digest}.>` });
    await expectFound(digest, "corrupt");
    await store.put(digest, content);
    expect(await store.get(digest)).toMatchObject({ ok: true });
  });

  test("with a piece that is not what was stored is corrupt", async () => {
    const { digest } = await stored();
    await replace((await pieces(digest))[1]!, randomBytes(pieceBytes));
    await expectFound(digest, "corrupt");
    const compressed = await stored(Buffer.alloc(pieceBytes, "firmware"));
    await replace((await pieces(compressed.digest))[0]!, "not zstd");
    await expectFound(compressed.digest, "corrupt");
  });

  test("with a piece that unpacks to more than it may is corrupt, and is not unpacked", async () => {
    const { digest } = await stored(Buffer.alloc(2 * pieceBytes, "firmware"));
    await replace((await pieces(digest))[0]!, zstdCompressSync(Buffer.alloc(256 * 1024 * 1024)));
    const before = process.memoryUsage().rss;
    await expectFound(digest, "corrupt");
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
  });

  test("whose pieces are all there and are not the content is corrupt", async () => {
    const [{ digest }, other] = [await stored(), await stored()];
    const meta = await (await streams()).getMessage(stream, { last_by_subj: metaSubject(bucket, other.digest) });
    const { nuid, metadata, digest: storedDigest } = meta!.json<Record<string, object>>();
    await forge(digest, (own) => ({
      ...own,
      nuid,
      digest: storedDigest,
      metadata: { ...metadata, "content-digest": digest },
    }));
    await expectFound(digest, "corrupt");
  });

  test("of another content under the digest's name is told by its own digest, and replaced by the next put", async () => {
    const { content, digest } = await stored();
    const other = randomBytes(100_000);
    await (await rawStore()).putBlob({ name: objectName(digest) }, other);
    await expectFound(digest, digestOf(other));
    await store.put(digest, content);
    expect(await store.get(digest)).toMatchObject({ ok: true });
  });

  test("that is removed while it is read is missing", async () => {
    const { digest } = await stored(randomBytes(30 * pieceBytes));
    let removal: Promise<void> | undefined;
    const found = await store.get(digest, { onChunk: () => void (removal ??= store.remove([digest])) });
    await removal;
    expect(found.ok || found.found === "missing" || found.found === "corrupt").toBe(true);
    await expectFound(digest, "missing");
  });
});

describe("a meta message", () => {
  const metadata = (change: object) => (meta: Record<string, unknown>) => ({
    ...meta,
    metadata: { ...(meta["metadata"] as object), ...change },
  });
  const forgeries: Record<string, (meta: Record<string, unknown>) => object> = {
    "of another size": metadata({ "content-bytes": "1000" }),
    "of more bytes than any object has": metadata({ "content-bytes": "1e12" }),
    "of more pieces than bytes": metadata({ "piece-checks": "00000000".repeat(1_000) }),
    "of an unknown encoding": metadata({ "content-encoding": "brotli" }),
    "with the pieces of everything": (meta) => ({ ...meta, nuid: ">" }),
    "whose pieces have no subject": (meta) => ({ ...meta, nuid: "a b\r\nPING\r\n.>" }),
    "without its metadata": (meta) => ({ ...meta, metadata: undefined }),
    "that says nothing": () => ({}),
    "that is a list": () => [],
  };
  for (const [name, change] of Object.entries(forgeries)) {
    test(`${name} makes the object corrupt, and the next put makes it right`, async () => {
      const { content, digest } = await stored();
      await forge(digest, change);
      await expectFound(digest, "corrupt");
      expect(await store.list()).toBeInstanceOf(Array);
      await store.put(digest, content);
      expect(await store.get(digest)).toMatchObject({ ok: true });
    });
  }

  test("with the pieces of everything removes nobody else's object", async () => {
    const [{ digest }, other] = [await stored(), await stored()];
    await forge(digest, (meta) => ({ ...meta, nuid: ">", metadata: undefined }));
    await store.remove([digest]);
    expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
    expect(await store.get(other.digest)).toMatchObject({ ok: true });
  });
});

describe("an object of the former version", () => {
  const former = async () => {
    const content = randomBytes(300_000);
    const digest = digestOf(content);
    const raw = await rawStore();
    const { nuid } = await raw.putBlob({ name: objectName(digest), options: { max_chunk_size: 64 * 1024 } }, content);
    return { content, digest, chunks: `$O.${bucket}.C.${nuid}` };
  };

  test("that has lost chunks is corrupt, and replaced by the next put", async () => {
    const { content, digest, chunks } = await former();
    await (await streams()).purge(stream, { filter: chunks, keep: 2 });
    expect(await store.has(digest)).toBe(false);
    await expectFound(digest, "corrupt");
    await (await streams()).purge(stream, { filter: chunks });
    await expectFound(digest, "corrupt");
    await store.put(digest, content);
    expect(await store.get(digest)).toMatchObject({ ok: true });
  });

  test("with other bytes than were stored is corrupt, whatever their number", async () => {
    for (const bytes of [300_000, 299_999, 300_001]) {
      const { digest, chunks } = await former();
      await (await streams()).purge(stream, { filter: chunks });
      for (let left = bytes; left > 0; left -= 64 * 1024) {
        await connection.request(chunks, Buffer.alloc(Math.min(left, 64 * 1024)));
      }
      await expectFound(digest, "corrupt");
    }
  });
});
