/** The bundles on a build machine's disk, with a real store where it matters, and one in the test's hands where it has to wait. */
import { randomBytes } from "node:crypto";
import { readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { ObjectStore, type Transfer } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { BundleCache } from "#compile-agent/bundle-cache.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import { objectStores } from "#protocol/names.ts";
import { bundleOf } from "#test/support/tar-bytes.ts";
import { testServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
let folder: string;

beforeEach(async () => {
  home = await temporaryFolder();
  folder = join(home.path, "bundles");
});
afterEach(() => home[Symbol.asyncDispose]());

interface Asked {
  readonly digest: Digest;
  readonly transfer: Transfer;
  /** Lets the store answer. */
  readonly bring: (bytes: Uint8Array) => Promise<void>;
  readonly fail: (error: Error) => void;
}

/** A store that answers when the test says so. */
function heldStore() {
  const asked: Asked[] = [];
  const getFile: ObjectStore["getFile"] = (digest, path, transfer) => {
    const { promise, resolve, reject } = Promise.withResolvers<{ ok: true; bytes: number }>();
    const bring = async (bytes: Uint8Array) => {
      await writeFile(path, bytes);
      resolve({ ok: true, bytes: bytes.length });
    };
    asked.push({ digest, transfer: transfer ?? {}, bring, fail: reject });
    return promise;
  };
  return { asked, cache: new BundleCache(folder, { getFile }) };
}

/** A store that has everything it is given. */
function fullStore(...bundles: readonly Buffer[]) {
  const asked: Digest[] = [];
  const getFile: ObjectStore["getFile"] = async (digest, path) => {
    asked.push(digest);
    const bytes = bundles.find((bundle) => digestOf(bundle) === digest);
    if (bytes === undefined) return { ok: false, found: "missing" };
    await writeFile(path, bytes);
    return { ok: true, bytes: bytes.length };
  };
  return { asked, store: { getFile } };
}

const lamp = bundleOf([{ path: "lamp.yaml", content: "esphome:\n" }]);
const bundleNumber = (n: number) => bundleOf([{ path: "noise", content: randomBytes(10_000 + n) }]);
/** What lies there but for the tars of takers. */
const names = async () => (await readdir(folder)).filter((name) => name !== "taken").toSorted();
const tars = () => readdir(join(folder, "taken"));

async function use(cache: BundleCache, bytes: Buffer): Promise<void> {
  const taken = await cache.take(digestOf(bytes));
  if (!taken.ok) throw new Error(JSON.stringify(taken));
  await taken.bundle[Symbol.asyncDispose]();
}

async function until(isSo: () => boolean): Promise<void> {
  const found = await poll(systemClock, { everyMs: 1, withinMs: 5_000 }, () => (isSo() ? true : undefined));
  if (found === undefined) throw new Error("not so after 5 s");
}

test("a bundle comes from the store once, and each taker has a tar of it for its owner alone", async () => {
  await using server = await testServer();
  const connection = await server.connect();
  await declareTopology(connection);
  const store = new ObjectStore(connection, objectStores.bundles);
  await store.put(digestOf(lamp), lamp);
  const cache = new BundleCache(folder, store);
  const taken = await cache.take(digestOf(lamp));
  if (!taken.ok) throw new Error(JSON.stringify(taken));
  expect(await readFile(taken.bundle.tar)).toEqual(gunzipSync(lamp));
  expect(await names()).toEqual([digestOf(lamp)]);
  const modes = [folder, join(folder, digestOf(lamp)), taken.bundle.tar].map(async (path) => (await stat(path)).mode);
  expect((await Promise.all(modes)).map((mode) => mode & 0o777)).toEqual([0o700, 0o600, 0o600]);
  // A new process finds it without the store, and what the killed one had taken is gone.
  await connection.close();
  const restarted = new BundleCache(folder, store);
  const again = await restarted.take(digestOf(lamp));
  if (!again.ok) throw new Error(JSON.stringify(again));
  expect(await tars()).toEqual([basename(again.bundle.tar)]);
  await again.bundle[Symbol.asyncDispose]();
  expect(await tars()).toEqual([]);
});

test("a bundle that was damaged on the disk is not used, and fetched again", async () => {
  await using server = await testServer();
  const connection = await server.connect();
  await declareTopology(connection);
  const store = new ObjectStore(connection, objectStores.bundles);
  await store.put(digestOf(lamp), lamp);
  const cache = new BundleCache(folder, store);
  await use(cache, lamp);
  await writeFile(join(folder, digestOf(lamp)), bundleNumber(1));
  const taken = await cache.take(digestOf(lamp));
  expect(taken.ok && (await readFile(taken.bundle.tar))).toEqual(gunzipSync(lamp));
  expect(await readFile(join(folder, digestOf(lamp)))).toEqual(lamp);
});

test("a bundle that was prefetched is there for the job, which asks nobody", async () => {
  const { asked, store } = fullStore(lamp);
  const cache = new BundleCache(folder, store);
  await cache.prefetch(digestOf(lamp));
  expect(await names()).toEqual([digestOf(lamp)]);
  await use(cache, lamp);
  await cache.prefetch(digestOf(lamp));
  expect(asked).toEqual([digestOf(lamp)]);
});

test("whoever wants what is on its way waits for that, and hears how far it is", async () => {
  const { asked, cache } = heldStore();
  const prefetching = cache.prefetch(digestOf(lamp));
  let chunks = 0;
  const taking = cache.take(digestOf(lamp), { onChunk: () => (chunks += 1) });
  await until(() => asked.length === 1);
  asked[0]!.transfer.onChunk?.();
  await until(() => chunks === 1);
  await asked[0]!.bring(lamp);
  expect(await taking).toMatchObject({ ok: true });
  await prefetching;
  expect(asked).toHaveLength(1);
});

test("a job that is called off leaves the fetching to the others, and the last one ends it", async () => {
  const { asked, cache } = heldStore();
  const [first, second] = [new AbortController(), new AbortController()];
  const taking = [first, second].map(({ signal }) => cache.take(digestOf(lamp), { signal }));
  await until(() => asked.length === 1);
  first.abort();
  expect(await taking[0]).toEqual({ ok: false, aborted: true });
  expect(asked[0]!.transfer.signal?.aborted).toBe(false);
  second.abort();
  expect(await taking[1]).toEqual({ ok: false, aborted: true });
  expect(asked[0]!.transfer.signal?.aborted).toBe(true);
  // The next one does not wait for a store that does not end.
  const next = cache.take(digestOf(lamp));
  await until(() => asked.length === 2);
  await asked[1]!.bring(lamp);
  expect(await next).toMatchObject({ ok: true });
});

test("a store that is away is the caller's matter, and a hint's nobody's", async () => {
  const { asked, cache } = heldStore();
  const away = new UnavailableError("no-answer", "the store has no leader");
  const prefetching = cache.prefetch(digestOf(lamp));
  await until(() => asked.length === 1);
  asked[0]!.fail(away);
  await prefetching;
  const taking = cache.take(digestOf(lamp));
  await until(() => asked.length === 2);
  asked[1]!.fail(away);
  await expect(taking).rejects.toBe(away);
});

test("what is not in the store, is another bundle, or is none, is refused and leaves no tar", async () => {
  const broken = Buffer.from("no gzip");
  const { store } = fullStore(broken);
  const cache = new BundleCache(folder, store);
  const refused = (reason: RegExp) => ({ failure: { kind: "bundle-refused", reason: expect.stringMatching(reason) } });
  expect(await cache.take(digestOf(lamp))).toMatchObject(refused(/is not in the store/));
  expect(await cache.take(digestOf(broken))).toMatchObject(refused(/cannot be unpacked/));
  expect(await tars()).toEqual([]);
  const other = digestOf(Buffer.from("other"));
  const wrong = new BundleCache(folder, { getFile: async () => ({ ok: false, found: other }) });
  expect(await wrong.take(digestOf(lamp))).toMatchObject(refused(new RegExp(`its digest is ${other}`)));
});

test("a disk without room sends the job to another machine", async () => {
  const cause = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  const getFile = () => Promise.reject(new UnavailableError("disk", "no space", { cause }));
  expect(await new BundleCache(folder, { getFile }).take(digestOf(lamp))).toMatchObject({
    failure: { kind: "disk-full" },
  });
});

test("beyond the limits what was wanted longest ago goes, and never what somebody wants", async () => {
  const [a, b, c, d] = [1, 2, 3, 4].map(bundleNumber) as [Buffer, Buffer, Buffer, Buffer];
  const { store } = fullStore(a, b, c, d);
  const age = async (bundle: Buffer, at: number) => utimes(join(folder, digestOf(bundle)), at, at);
  const cache = new BundleCache(folder, store, systemClock, { bundles: 2, bytes: 1_000_000 });
  await use(cache, a);
  await use(cache, b);
  await age(a, 1);
  await age(b, 2);
  await use(cache, a);
  await use(cache, c);
  expect(await names()).toEqual([a, c].map(digestOf).toSorted());
  await age(a, 1);
  await age(c, 2);
  const small = new BundleCache(folder, store, systemClock, { bundles: 64, bytes: 25_000 });
  await use(small, d);
  expect(await names()).toEqual([c, d].map(digestOf).toSorted());
  const none = new BundleCache(folder, store, systemClock, { bundles: 0, bytes: 0 });
  await use(none, a);
  expect(await names()).toEqual([digestOf(a)]);
});

test("a reset takes every bundle away that no job waits for, with what broken transfers have left", async () => {
  const { store } = fullStore(lamp, bundleNumber(1));
  const cache = new BundleCache(folder, store);
  await use(cache, lamp);
  await writeFile(join(folder, `${"a".repeat(64)}.${"a".repeat(16)}.part`), "half");
  await cache.clear();
  expect(await names()).toEqual([]);
});

test("hints are followed one at a time, and of those that wait only the last one", async () => {
  const { asked, cache } = heldStore();
  const bundles = [1, 2, 3].map(bundleNumber);
  const hints = bundles.map((bundle) => cache.prefetch(digestOf(bundle)));
  await until(() => asked.length === 1);
  // A job does not wait for a hint.
  const taking = cache.take(digestOf(lamp));
  await until(() => asked.length === 2);
  await asked[1]!.bring(lamp);
  expect(await taking).toMatchObject({ ok: true });
  asked[0]!.fail(new UnavailableError("no-answer", "away"));
  await until(() => asked.length === 3);
  await asked[2]!.bring(bundles[2]!);
  await Promise.all(hints);
  expect(asked.map(({ digest }) => digest)).toEqual([bundles[0]!, lamp, bundles[2]!].map(digestOf));
  expect(await names()).toEqual([lamp, bundles[2]!].map(digestOf).toSorted());
});
