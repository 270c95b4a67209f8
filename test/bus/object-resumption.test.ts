import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { pieceBytes } from "#bus/object-layout.ts";
import { ObjectStore, type Transfer } from "#bus/object-store.ts";
import { transferWithin } from "#bus/object-transfer.ts";
import { declareTopology } from "#bus/topology.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { objectStores } from "#protocol/names.ts";
import { CuttingProxy } from "#test/support/cutting-proxy.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

/** 32 pieces that do not get smaller. */
const content = randomBytes(32 * pieceBytes);
const digest = digestOf(content);
/** What is under way when a connection breaks, and is sent again when it did not arrive. */
const underWay = 9 * pieceBytes;

let server: TestServer;
let home: TemporaryFolder;
let connection: Connection;
let store: ObjectStore;
let source: string;
let target: string;

beforeEach(async () => {
  [server, home] = await Promise.all([testServer(), temporaryFolder()]);
  connection = await server.connect();
  await declareTopology(connection);
  store = new ObjectStore(connection, objectStores.artifacts);
  source = join(home.path, "source");
  target = join(home.path, "target");
  await writeFile(source, content);
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

/** Calls back with the `count`th chunk of a transfer. */
function atChunk(count: number, call: () => void): Transfer {
  let left = count;
  return {
    onChunk: () => {
      left -= 1;
      if (left === 0) call();
    },
  };
}

async function bytesSent(work: () => Promise<unknown>): Promise<number> {
  const before = connection.stats().outBytes;
  await work();
  return connection.stats().outBytes - before;
}

async function bytesReceived(work: () => Promise<unknown>): Promise<number> {
  const before = connection.stats().inBytes;
  await work();
  return connection.stats().inBytes - before;
}

async function expectStored(): Promise<void> {
  expect(await store.getFile(digest, target)).toEqual({ ok: true, bytes: content.length });
  expect((await readFile(target)).equals(content)).toBe(true);
  expect((await readdir(home.path)).sort()).toEqual(["source", "target"]);
}

test("a put that lost its server goes on with the pieces that did not arrive", async () => {
  let killed: Promise<void> | undefined;
  const broken = store.putFile(
    digest,
    source,
    atChunk(16, () => void (killed = server.kill())),
  );
  await expect(broken).rejects.toThrow(UnavailableError);
  await killed;
  await server.restart();
  expect(await store.get(digest)).toEqual({ ok: false, found: "missing" });
  expect(await bytesSent(() => store.putFile(digest, source))).toBeLessThan(content.length / 2 + pieceBytes);
  await expectStored();
});

test("a get that lost its server goes on with its draft, and nothing is at its place before the end", async () => {
  await store.putFile(digest, source);
  let killed: Promise<void> | undefined;
  const broken = store.getFile(
    digest,
    target,
    atChunk(16, () => void (killed = server.kill())),
  );
  await expect(broken).rejects.toThrow(UnavailableError);
  await killed;
  expect(existsSync(target)).toBe(false);
  await server.restart();
  expect(await bytesReceived(() => store.getFile(digest, target))).toBeLessThan(content.length / 2 + pieceBytes);
  await expectStored();
});

test("a transfer that is called off ends at once and goes on later", async () => {
  const off = new AbortController();
  const transfer = { signal: off.signal, ...atChunk(16, () => off.abort()) };
  await expect(store.putFile(digest, source, transfer)).rejects.toMatchObject({ code: "called-off" });
  await expect(store.putFile(digest, source, transfer)).rejects.toThrow(UnavailableError);
  expect(await bytesSent(() => store.putFile(digest, source))).toBeLessThan(content.length / 2 + pieceBytes);
  const off2 = new AbortController();
  const get = store.getFile(digest, target, { signal: off2.signal, ...atChunk(16, () => off2.abort()) });
  await expect(get).rejects.toMatchObject({ code: "called-off" });
  // What was under way when it was called off arrives as well.
  expect(await bytesReceived(() => store.getFile(digest, target))).toBeLessThan(content.length / 2 + underWay);
  await expectStored();
});

test("what a killed process has brought is not brought again", async () => {
  const fixture = join(import.meta.dirname, "../fixtures/object-transfer.ts");
  const dieInTheMiddle = (direction: string, path: string) =>
    runProcess({
      argv: [process.execPath, fixture, server.url, direction, digest, path, "16"],
      env: plainEnvironment(),
      signal: AbortSignal.timeout(20_000),
      clock: systemClock,
    });
  expect((await dieInTheMiddle("put", source)).end).toMatchObject({ kind: "signalled", signal: "SIGKILL" });
  expect(await bytesSent(() => store.putFile(digest, source))).toBeLessThan(content.length / 2 + pieceBytes);
  await dieInTheMiddle("get", target);
  expect(await bytesReceived(() => store.getFile(digest, target))).toBeLessThan(content.length / 2 + pieceBytes);
  await expectStored();
});

test("a draft that was spoilt meanwhile is put right", async () => {
  await store.putFile(digest, source);
  const off = new AbortController();
  await store.getFile(digest, target, { signal: off.signal, ...atChunk(16, () => off.abort()) }).catch(() => undefined);
  const draft = (await readdir(home.path)).find((name) => name.endsWith(".part")) ?? "";
  const spoilt = await readFile(join(home.path, draft));
  spoilt.fill(0, 3 * pieceBytes + 5, 3 * pieceBytes + 6);
  await writeFile(join(home.path, draft), Buffer.concat([spoilt, Buffer.alloc(content.length)]));
  await expectStored();
});

test("a connection that is cut at random points delays a transfer and spoils nothing", async () => {
  const seed = Number(process.hrtime.bigint() % 1_000_000n);
  const random = randomFrom(seed);
  const proxy = await CuttingProxy.start(Number(new URL(server.url).port), () => Math.floor(random() * 8_000_000));
  await using _ = proxy;
  const shaky = await connectWhenever(proxy.url);
  const shakyStore = new ObjectStore(shaky, objectStores.artifacts);
  const watch = { signal: AbortSignal.timeout(25_000), moved: () => undefined };
  const through = async (work: (transfer: Transfer) => Promise<object>) => {
    const [cuts, { inBytes, outBytes }] = [proxy.cuts, shaky.stats()];
    const result = await transferWithin(watch, systemClock, work);
    expect(result, `seed ${seed}`).toBeDefined();
    const moved = shaky.stats().inBytes - inBytes + shaky.stats().outBytes - outBytes;
    expect(moved, `seed ${seed}`).toBeLessThan(content.length * 1.1 + (proxy.cuts - cuts) * underWay);
  };
  try {
    await through(async (transfer) => ({ done: await shakyStore.putFile(digest, source, transfer) }));
    await through((transfer) => shakyStore.getFile(digest, target, transfer));
    expect((await readFile(target)).equals(content), `seed ${seed}`).toBe(true);
    expect(proxy.cuts, `seed ${seed}`).toBeGreaterThan(0);
  } finally {
    await shaky.close();
  }
});

async function connectWhenever(url: string): Promise<Connection> {
  for (;;) {
    try {
      return await connect(url, "shaky");
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
    }
  }
}

/** Mulberry32. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
