import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync, zstdDecompressSync } from "node:zlib";
import { jetstreamManager } from "@nats-io/jetstream";
import { Objm } from "@nats-io/obj";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import type { Connection } from "#bus/connection.ts";
import { metaSubject, pieceBytes } from "#bus/object-layout.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { objectName, objectStores } from "#protocol/names.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const stream = `OBJ_${objectStores.artifacts}`;
const dayMs = 24 * 60 * 60 * 1000;
let server: TestServer;
let home: TemporaryFolder;
let connection: Connection;
let store: ObjectStore;

beforeAll(async () => {
  [server, home] = await Promise.all([testServer(), temporaryFolder()]);
  connection = await server.connect();
  await declareTopology(connection);
  store = new ObjectStore(connection, objectStores.artifacts);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

const bytesOf = (text: string) => Buffer.from(text);
const rawStore = () => new Objm(connection).open(objectStores.artifacts);
/** Compares without printing megabytes. */
const isSame = (found: Uint8Array | null, wanted: Uint8Array) => found !== null && Buffer.compare(found, wanted) === 0;
const fileIn = (name: string) => join(home.path, name);

async function lastSequence(): Promise<number> {
  return (await (await jetstreamManager(connection)).streams.info(stream)).state.last_seq;
}

async function bytesSent(of: Connection, work: () => Promise<unknown>): Promise<number> {
  const before = of.stats().outBytes;
  await work();
  return of.stats().outBytes - before;
}

/** Not random and not empty: lines that resemble each other. */
function firmwareLike(bytes: number): Buffer {
  const lines = Array.from({ length: bytes / 16 }, (_, line) => ((line * 2_654_435_761) % 0xffff).toString(16));
  return Buffer.from(lines.join(":").padEnd(bytes, "x").slice(0, bytes));
}

test("bytes come back under their digest, also those of many pieces and of none", async () => {
  const contents = [
    bytesOf("firmware"),
    Buffer.alloc(3_000_000, 7),
    Buffer.alloc(0),
    randomBytes(2 * pieceBytes),
    firmwareLike(2 * pieceBytes + 1),
  ];
  for (const bytes of contents) {
    const digest = digestOf(bytes);
    expect(await store.has(digest)).toBe(false);
    expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
    await store.put(digest, bytes);
    expect(await store.has(digest)).toBe(true);
    const found = await store.get(digest);
    expect(found.ok && Buffer.from(found.bytes).equals(bytes)).toBe(true);
  }
});

test("files come back under their digest, and leave nothing beside them", async () => {
  for (const [index, bytes] of [Buffer.alloc(0), randomBytes(3_000_000), firmwareLike(3_000_000)].entries()) {
    const [source, target] = [fileIn(`in-${index}`), fileIn(`out-${index}`)];
    await writeFile(source, bytes);
    await store.remove([digestOf(bytes)]);
    expect(await store.getFile(digestOf(bytes), target)).toEqual({ ok: false, found: "missing" });
    await store.putFile(digestOf(bytes), source);
    expect(await store.getFile(digestOf(bytes), target)).toEqual({ ok: true, bytes: bytes.length });
    expect((await readFile(target)).equals(bytes)).toBe(true);
  }
  expect((await readdir(home.path)).filter((name) => name.endsWith(".part"))).toEqual([]);
});

test("what is there already is neither written nor sent again, whoever puts it", async () => {
  const bytes = randomBytes(4_000_000);
  const digest = digestOf(bytes);
  await store.put(digest, bytes);
  const before = await lastSequence();
  const other = await server.connect("other");
  await writeFile(fileIn("again"), bytes);
  const again = new ObjectStore(other, objectStores.artifacts);
  expect(await bytesSent(other, () => again.putFile(digest, fileIn("again")))).toBeLessThan(2_000);
  expect(await lastSequence()).toBe(before);
});

test("what gets smaller is compressed, and an archive is stored as it is", async () => {
  const firmware = firmwareLike(4_000_000);
  const sent = await bytesSent(connection, () => store.put(digestOf(firmware), firmware));
  expect(sent).toBeLessThan(firmware.length * 0.7);
  const archive = gzipSync(randomBytes(2_000_000));
  await store.put(digestOf(archive), archive);
  expect(isSame(await (await rawStore()).getBlob(objectName(digestOf(archive))), archive)).toBe(true);
});

test("the tools of NATS list, read and delete an object", async () => {
  const bytes = firmwareLike(2 * pieceBytes + 100);
  const digest = digestOf(bytes);
  await store.put(digest, bytes);
  const raw = await rawStore();
  const info = await raw.info(objectName(digest));
  expect(info).toMatchObject({ chunks: 3, metadata: { "content-encoding": "zstd", "content-bytes": "1048676" } });
  expect((await raw.list()).map(({ name }) => name)).toContain(objectName(digest));
  // Node may leave out all frames but the first; `zstd -d` does not.
  const frames = await raw.getBlob(objectName(digest));
  expect(frames?.length).toBe(info?.size);
  expect(isSame(zstdDecompressSync(frames!).subarray(0, pieceBytes), bytes.subarray(0, pieceBytes))).toBe(true);
  await raw.delete(objectName(digest));
  expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
  expect(await store.has(digest)).toBe(false);
  await store.put(digest, bytes);
  expect(await store.get(digest)).toMatchObject({ ok: true });
});

test("an object of the former version is read, counted as there, and removed", async () => {
  const bytes = randomBytes(300_000);
  const digest = digestOf(bytes);
  const before = await store.list();
  await (await rawStore()).putBlob({ name: objectName(digest), options: { max_chunk_size: 64 * 1024 } }, bytes);
  expect(await store.has(digest)).toBe(true);
  expect(await bytesSent(connection, () => store.put(digest, bytes))).toBeLessThan(2_000);
  const found = await store.get(digest);
  expect(found.ok && Buffer.from(found.bytes).equals(bytes)).toBe(true);
  expect(await store.getFile(digest, fileIn("former"))).toEqual({ ok: true, bytes: bytes.length });
  expect((await readFile(fileIn("former"))).equals(bytes)).toBe(true);
  expect((await store.list()).length).toBe(before.length + 1);
  await store.remove([digest]);
  expect(await store.list()).toEqual(before);
  expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
});

test("objects are listed with both of their sizes, and gone without a trace when they were removed", async () => {
  const [firmware, small] = [firmwareLike(1_000_000), bytesOf("small")];
  const digests = [digestOf(firmware), digestOf(small)];
  const manager = await jetstreamManager(connection);
  const before = (await manager.streams.info(stream)).state.messages;
  const since = Date.now();
  await store.put(digestOf(firmware), firmware);
  await store.put(digestOf(small), small);
  const listed = (await store.list()).filter(({ digest }) => digests.includes(digest));
  expect(listed).toMatchObject([
    { digest: digests[0], bytes: firmware.length },
    { digest: digests[1], bytes: 5, storedBytes: 5 },
  ]);
  expect(listed[0]!.storedBytes).toBeLessThan(firmware.length * 0.7);
  for (const { at } of listed) expect(Math.abs(at - since)).toBeLessThan(10_000);
  await store.remove([...digests, digestOf(bytesOf("never"))]);
  expect((await store.list()).filter(({ digest }) => digests.includes(digest))).toEqual([]);
  expect((await manager.streams.info(stream)).state.messages).toBe(before);
});

test("two that put the same object at the same time both end well, and it is there once", async () => {
  const bytes = randomBytes(20 * pieceBytes);
  const digest = digestOf(bytes);
  await writeFile(fileIn("both"), bytes);
  const other = new ObjectStore(await server.connect("other"), objectStores.artifacts);
  await Promise.all([store.putFile(digest, fileIn("both")), other.putFile(digest, fileIn("both"))]);
  const info = await (
    await jetstreamManager(connection)
  ).streams.info(stream, {
    subjects_filter: `$O.${objectStores.artifacts}.C._.${digest}.>`,
  });
  expect(Object.values(info.state.subjects ?? {})).toEqual(Array.from({ length: 20 }, () => 1));
  expect(isSame(await (await rawStore()).getBlob(objectName(digest)), bytes)).toBe(true);
});

test("two that get the same object to the same place both end well", async () => {
  const bytes = randomBytes(6 * pieceBytes);
  const digest = digestOf(bytes);
  await store.put(digest, bytes);
  const gets = [1, 2, 3].map(() => store.getFile(digest, fileIn("shared")));
  for (const got of await Promise.all(gets)) expect(got).toEqual({ ok: true, bytes: bytes.length });
  expect((await readFile(fileIn("shared"))).equals(bytes)).toBe(true);
});

test("an object that is removed while it is put is whole afterwards", async () => {
  const bytes = randomBytes(30 * pieceBytes);
  const digest = digestOf(bytes);
  const other = new ObjectStore(await server.connect("other"), objectStores.artifacts);
  for (;;) {
    const events: string[] = [];
    let removal: Promise<unknown> | undefined;
    const remove = () => void (removal ??= other.remove([digest]).then(() => events.push("removed")));
    await store.put(digest, bytes, { onChunk: remove });
    events.push("put");
    const isWhole = (await store.get(digest)).ok;
    await removal;
    await other.remove([digest]);
    // A removal that takes longer than the put says nothing.
    if (events[0] === "removed") return expect(isWhole).toBe(true);
  }
});

test("an object that will be too old for its builds is stored anew, also by a machine whose clock is wrong", async () => {
  const bytes = bytesOf("aged");
  const digest = digestOf(bytes);
  await store.put(digest, bytes);
  const before = await lastSequence();
  const later = (days: number) =>
    new ObjectStore(connection, objectStores.artifacts, { ...systemClock, now: () => Date.now() + days * dayMs });
  await later(14).put(digest, bytes);
  expect(await lastSequence()).toBe(before);
  await later(16).put(digest, bytes);
  expect(await lastSequence()).toBe(before + 2);
  expect(await store.get(digest)).toMatchObject({ ok: true });
});

test("memory does not grow with an object", async () => {
  const bytes = randomBytes(64 * 1024 * 1024);
  await writeFile(fileIn("large"), bytes);
  const digest = digestOf(bytes);
  const grownBy = async (direction: "put" | "get", path: string) => {
    const fixture = join(import.meta.dirname, "../fixtures/object-transfer.ts");
    const heap = "--max-old-space-size=24";
    const { end, tail } = await runProcess({
      argv: [process.execPath, heap, fixture, server.url, direction, digest, path],
      env: plainEnvironment(),
      signal: AbortSignal.timeout(25_000),
    });
    expect(end, tail.join("\n")).toEqual({ kind: "exited", exitCode: 0 });
    return Number(tail.at(-1));
  };
  expect(await grownBy("put", fileIn("large"))).toBeLessThan(bytes.length / 2);
  expect(await grownBy("get", fileIn("large-out"))).toBeLessThan(bytes.length / 2);
  expect((await readFile(fileIn("large-out"))).equals(bytes)).toBe(true);
});

test("a file that is not what it is said to be, or not there, is its caller's mistake", async () => {
  const [right, wrong] = [randomBytes(3 * pieceBytes), randomBytes(3 * pieceBytes)];
  const digest = digestOf(right);
  await writeFile(fileIn("changed"), wrong);
  await expect(store.putFile(digest, fileIn("changed"))).rejects.toThrow(UsageError);
  await expect(store.putFile(digest, fileIn("absent"))).rejects.toThrow(UsageError);
  expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
  await store.put(digest, right);
  expect(isSame(await (await rawStore()).getBlob(objectName(digest)), right)).toBe(true);
});

test("without a server the store is unavailable", async () => {
  const cut = await server.connect();
  await cut.close();
  const gone = new ObjectStore(cut, objectStores.artifacts);
  const digest = digestOf(bytesOf("x"));
  const works = [
    () => gone.get(digest),
    () => gone.put(digest, bytesOf("x")),
    () => gone.getFile(digest, fileIn("x")),
    () => gone.has(digest),
    () => gone.list(),
    () => gone.remove([digest]),
  ];
  for (const work of works) await expect(work()).rejects.toThrow(UnavailableError);
});

test("an object of version 0.1, whose pieces do not say who sent them, is read and removed", async () => {
  const content = randomBytes(pieceBytes + 3);
  const digest = digestOf(content);
  await store.put(digest, content);
  const manager = await jetstreamManager(connection);
  const filter = `$O.${objectStores.artifacts}.C._.${digest}.>`;
  const { state } = await manager.streams.info(stream, { subjects_filter: filter });
  for (const subject of Object.keys(state.subjects ?? {})) {
    const { data } = (await manager.streams.getMessage(stream, { last_by_subj: subject }))!;
    await connection.request(subject.replace("C._.", "C."), data);
  }
  const meta = metaSubject(objectStores.artifacts, digest);
  const { data } = (await manager.streams.getMessage(stream, { last_by_subj: meta }))!;
  await manager.streams.purge(stream, { filter });
  await manager.streams.purge(stream, { filter: meta });
  await connection.request(meta, new TextDecoder().decode(data).replace(`"nuid":"_.`, `"nuid":"`));
  const got = await store.get(digest);
  expect(got.ok && isSame(got.bytes, content)).toBe(true);
  await store.remove([digest]);
  const left = await manager.streams.info(stream, { subjects_filter: `$O.${objectStores.artifacts}.C.${digest}.>` });
  expect(left.state.subjects ?? {}).toEqual({});
});
