/** The jobs of the compile lane, and that each of their stages ends when what it waits for has stalled. */
import { execFileSync } from "node:child_process";
import { chmod, copyFile, mkdir, open, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { connect, type Connection } from "#bus/connection.ts";
import { ObjectStore, type Transfer } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { escapeName } from "#compile-agent/workspace.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { retryOf } from "#protocol/failure.ts";
import type { Digest } from "#protocol/ids.ts";
import { CommandBuildSpec, type JobResult } from "#protocol/job.ts";
import { objectStores } from "#protocol/names.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { CutProxy } from "#test/chaos/cut-proxy.ts";
import { cleanOf, CompileBench, compileOf, deadline, lamp } from "#test/support/compile-bench.ts";
import { buildSpec } from "#test/support/farm-builders.ts";
import { jumpingClock } from "#test/support/jumping-clock.ts";
import { uploadDispatch } from "#test/support/lane-bench.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

let bench: CompileBench;
beforeEach(async () => {
  bench = await CompileBench.open();
});
afterEach(() => bench[Symbol.asyncDispose]());

/** The job ends by this limit and by no other, its log says so, and the farm tries it again or not. */
function expectDeadline(result: JobResult, expected: ReturnType<typeof deadline>, retry: string): void {
  expect(result).toEqual(expected);
  expect(retryOf(expected.failure)).toBe(retry);
  expect(bench.lines.at(-1)).toContain(`(stage: ${expected.failure.stage})`);
}

const treeFolder = () => join(bench.home.path, "build", "trees", escapeName("command"), escapeName(lamp));

test("a build is fetched, built and stored, and its stages are told", async () => {
  const stored: Digest[] = [];
  const putFile = async (digest: Digest) => void stored.push(digest);
  const result = await bench.does(compileOf(bench.makes("echo firmware > a.bin")), { artifacts: { putFile } });
  const manifest = { images: [{ name: "a.bin", digest: stored[0] }] };
  expect(result).toMatchObject({ kind: "built", manifest, isWarm: false });
  expect(bench.said).toEqual(["compile: fetching", "compile: compiling", "compile: storing"]);
  expect(await bench.workspace.leftResults()).toEqual([]);
});

test("the slot is given back once the images are out of the tree, and before they are sent", async () => {
  const clock = jumpingClock();
  const putFile = async () => {
    bench.said.push("sent");
    clock.jump(50_000);
  };
  const release = async () => void bench.said.push("released");
  const services = { clock, artifacts: { putFile } };
  const result = await bench.does(compileOf(bench.makes("echo firmware > a.bin")), services, {}, { release });
  expect(bench.said).toEqual(["compile: fetching", "compile: compiling", "released", "compile: storing", "sent"]);
  expect(result.kind === "built" && result.buildMs < 50_000).toBe(true);
});

test("a build that fails has nothing to send and gives no slot back before its end", async () => {
  const released: unknown[] = [];
  const result = await bench.does(
    compileOf(bench.makes("exit 1")),
    {},
    {},
    { release: async () => void released.push("released") },
  );
  expect(result).toMatchObject({ kind: "failed", failure: { kind: "compiler-exit" } });
  expect(released).toEqual([]);
});

test("a stop while the slot cannot be given back ends the job, and sends none of its images", async () => {
  const stop = new AbortController();
  const sent: Digest[] = [];
  const putFile = async (digest: Digest) => void sent.push(digest);
  // As the worker does it, while others send.
  const release = async () => stop.abort();
  const job = compileOf(bench.makes("echo firmware > a.bin"));
  const attempt = { release, signal: stop.signal };
  expect(await bench.does(job, { artifacts: { putFile } }, {}, attempt)).toEqual({ kind: "stopped" });
  expect([sent, await bench.workspace.leftResults()]).toEqual([[], []]);
});

test("a stop while the images are sent ends the job, and leaves none of them", async () => {
  const stop = new AbortController();
  const putFile: ObjectStore["putFile"] = () => {
    stop.abort();
    return new Promise<never>(() => undefined);
  };
  const job = compileOf(bench.makes("echo firmware > a.bin"));
  expect(await bench.does(job, { artifacts: { putFile } }, {}, { signal: stop.signal })).toEqual({ kind: "stopped" });
  expect(await bench.workspace.leftResults()).toEqual([]);
});

test("an upload that came down the compile lane is a bug that is reported", async () => {
  expect(await bench.does(uploadDispatch(1))).toMatchObject({ kind: "failed", failure: { kind: "internal" } });
});

describe("a transfer over a connection that stops in the middle", () => {
  const big = Buffer.alloc(32 * 1024 * 1024, 7);
  let server: TestServer;
  let proxy: CutProxy;
  let connection: Connection;
  /** Passes the first chunks on, and then nothing any more. */
  const frozenAfter = (chunks: number, { signal: stop, onChunk }: Transfer): Transfer => {
    let left = chunks;
    return {
      ...(stop === undefined ? {} : { signal: stop }),
      onChunk: () => {
        onChunk?.();
        left -= 1;
        if (left === 0) proxy.freeze();
      },
    };
  };

  beforeAll(async () => {
    server = await testServer();
    const direct = await server.connect();
    await declareTopology(direct);
    await new ObjectStore(direct, objectStores.bundles).put(digestOf(big), big);
  });
  afterAll(() => server[Symbol.asyncDispose]());
  beforeEach(async () => {
    proxy = await CutProxy.start(Number(new URL(server.url).port));
    connection = await connect(proxy.url, "agent");
  });
  afterEach(async () => {
    proxy.restore();
    await connection.close();
    await proxy[Symbol.asyncDispose]();
  });

  test("fetching a bundle ends by silence and is tried again later", async () => {
    const store = new ObjectStore(connection, objectStores.bundles);
    const getFile: ObjectStore["getFile"] = (digest, path, transfer) =>
      store.getFile(digest, path, frozenAfter(3, transfer ?? {}));
    const spec = CommandBuildSpec.parse({ ...bench.makes("true"), bundle: digestOf(big) });
    const limits = { fetching: { silenceMs: 500, totalMs: 60_000 } };
    expectDeadline(
      await bench.does(compileOf(spec), { bundles: bench.bundlesFrom(getFile) }, limits),
      deadline("fetching", "silence", 500),
      "later",
    );
  });

  test("storing an artifact ends by silence and is tried again later", async () => {
    const store = new ObjectStore(connection, objectStores.artifacts);
    const putFile: ObjectStore["putFile"] = (digest, path, transfer) =>
      store.putFile(digest, path, frozenAfter(3, transfer ?? {}));
    const limits = { storing: { silenceMs: 500, totalMs: 60_000 } };
    const spec = bench.makes("head -c 9000000 /dev/urandom > a.bin");
    const result = await bench.does(compileOf(spec), { artifacts: { putFile } }, limits);
    expectDeadline(result, deadline("storing", "silence", 500), "later");
    expect(await bench.workspace.leftResults()).toEqual([]);
  });

  test("a stop ends it at once", async () => {
    const store = new ObjectStore(connection, objectStores.bundles);
    const stop = new AbortController();
    const getFile: ObjectStore["getFile"] = (digest, path, transfer) => {
      const onChunk = () => stop.abort();
      return store.getFile(digest, path, { ...transfer, onChunk });
    };
    const spec = CommandBuildSpec.parse({ ...bench.makes("true"), bundle: digestOf(big) });
    const services = { bundles: bench.bundlesFrom(getFile) };
    expect(await bench.does(compileOf(spec), services, {}, { signal: stop.signal })).toEqual({ kind: "stopped" });
  });
});

describe("a store", () => {
  const away = async (_digest: Digest, _path: string, transfer?: Transfer) => {
    transfer?.onChunk?.();
    throw new UnavailableError("no-answer", "the store has no leader");
  };

  test("that is away longer than a stage may take ends it by its total time", async () => {
    const fetching = { totalMs: 500 };
    const fetched = await bench.does(
      compileOf(bench.makes("true")),
      { bundles: bench.bundlesFrom(away) },
      { fetching },
    );
    expectDeadline(fetched, deadline("fetching", "total", 500), "later");
    const spec = compileOf(bench.makes("echo firmware > a.bin"));
    const stored = await bench.does(spec, { artifacts: { putFile: away } }, { storing: { totalMs: 500 } });
    expectDeadline(stored, deadline("storing", "total", 500), "later");
  });

  test("that begins anew each time and gets no further is silent", async () => {
    const fetching = { silenceMs: 500, totalMs: 60_000 };
    const result = await bench.does(compileOf(bench.makes("true")), { bundles: bench.bundlesFrom(away) }, { fetching });
    expectDeadline(result, deadline("fetching", "silence", 500), "later");
  });

  test("that does not even end when it is called off holds up no job", async () => {
    const bundles = () => bench.bundlesFrom(() => new Promise<never>(() => undefined));
    const fetching = { silenceMs: 300, totalMs: 60_000 };
    const result = await bench.does(compileOf(bench.makes("true")), { bundles: bundles() }, { fetching });
    expectDeadline(result, deadline("fetching", "silence", 300), "later");
    const stop = new AbortController();
    const stopped = bench.does(compileOf(bench.makes("true")), { bundles: bundles() }, {}, { signal: stop.signal });
    stop.abort();
    expect(await stopped).toEqual({ kind: "stopped" });
  });
});

test("a build that talks and then hangs ends by silence, and is never tried again", async () => {
  const limits = { compiling: { silenceMs: 500, totalMs: 60_000 } };
  const result = await bench.does(compileOf(bench.makes("echo one; echo two; exec sleep 600")), {}, limits);
  expectDeadline(result, deadline("compiling", "silence", 500), "never");
});

test("a bundle that is on the disk is asked of nobody, until a reset has taken it away", async () => {
  const asked: Digest[] = [];
  const bundles = bench.bundlesFrom(async (digest, path) => {
    asked.push(digest);
    await writeFile(path, bench.bundle.bytes);
    return { ok: true, bytes: bench.bundle.bytes.length };
  });
  await bundles.prefetch(bench.bundle.digest);
  const builds = () => bench.does(compileOf(bench.makes("echo firmware > a.bin")), { bundles });
  expect(await builds()).toMatchObject({ kind: "built", isWarm: false });
  expect(await builds()).toMatchObject({ kind: "built", isWarm: true });
  expect(asked).toHaveLength(1);
  expect(await bench.does(cleanOf("all"), { bundles })).toEqual({ kind: "cleaned", trees: 1 });
  expect(await readdir(join(bench.home.path, "bundles"), { recursive: true })).toEqual(["taken"]);
  expect(await builds()).toMatchObject({ kind: "built", isWarm: false });
  expect(asked).toHaveLength(2);
});

test("an environment that cannot be made sends the job to another machine, and its log says why", async () => {
  const python = join(bench.home.path, "python", "python3.12");
  await mkdir(join(bench.home.path, "python"));
  await copyFile(join(import.meta.dirname, "../fixtures/fake-python.sh"), python);
  await chmod(python, 0o755);
  await writeFile(join(bench.home.path, "python", "python-version"), "3.12.1");
  await writeFile(join(bench.home.path, "python", "pip-behaviour"), 'echo "error: a wheel does not build" >&2; exit 1');
  const options = { cacheFolder: join(bench.home.path, "cache"), clock: systemClock, pythonHint: python };
  const result = await bench.does(compileOf(buildSpec()), { environments: new EsphomeEnvironments(options) });
  const failure = { kind: "toolchain-missing", missing: "ESPHome 2026.10.0" };
  expect(result).toMatchObject({ kind: "failed", failure });
  expect(result.kind === "failed" && retryOf(result.failure)).toBe("elsewhere");
  expect(bench.lines.at(-1)).toContain(
    "ESPHome 2026.10.0 is missing on the build machine: pip: error: a wheel does not build",
  );
});

test("an environment that somebody else makes for ever ends by the total time, and another machine is tried", async () => {
  const held = await lockFolder(join(bench.home.path, "cache", "esphome", "2026.10.0", "lock"), { clock: systemClock });
  const result = await bench.does(compileOf(buildSpec()), {}, { environment: { silenceMs: 100, totalMs: 600 } });
  await held![Symbol.asyncDispose]();
  expectDeadline(result, deadline("environment", "total", 600), "elsewhere");
  expect(bench.lines[0]).toContain("waiting for process");
});

test("a disk that hangs while a bundle is unpacked ends the build, and the tree waits for the disk", async () => {
  const own = join(treeFolder(), "source", ".flashyard");
  await mkdir(own, { recursive: true });
  execFileSync("mkfifo", [join(own, "files.json")]);
  const result = await bench.does(compileOf(bench.makes("true")), {}, { unpacking: { totalMs: 500 } });
  expectDeadline(result, deadline("unpacking", "total", 500), "elsewhere");
  // Reading it waits for a writer; until then nobody gets the tree.
  const cleaning = { totalMs: 300 };
  expectDeadline(
    await bench.does(cleanOf("configuration"), {}, { cleaning }),
    deadline("cleaning", "total", 300),
    "never",
  );
  const next = bench.does(cleanOf("configuration"));
  await (await open(join(own, "files.json"), "w")).close();
  expect(await next).toEqual({ kind: "cleaned", trees: 1 });
});

test("collecting what was built has its time", async () => {
  const result = await bench.does(compileOf(bench.makes("echo firmware > a.bin")), {}, { collecting: { totalMs: 0 } });
  expectDeadline(result, deadline("collecting", "total", 0), "elsewhere");
});
