/** The jobs of the compile lane, and that each of their stages ends when what it waits for has stalled. */
import { execFileSync } from "node:child_process";
import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { GroupLedger } from "#actor/process-group.ts";
import { digestOf } from "#actor/digest.ts";
import { connect, type Connection } from "#bus/connection.ts";
import { ObjectStore, type Transfer } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { compileHandler, type CompileServices } from "#compile-agent/compile-job.ts";
import { escapeName, Workspace } from "#compile-agent/workspace.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { retryOf } from "#protocol/failure.ts";
import type { Digest } from "#protocol/ids.ts";
import { type BuildSpec, CommandBuildSpec, type JobResult } from "#protocol/job.ts";
import { stageLimits, type Stage, type StageLimit } from "#protocol/limits.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { objectStores } from "#protocol/names.ts";
import { makeCommandBundle } from "#toolchain/command-bundle.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { CutProxy } from "#test/chaos/cut-proxy.ts";
import { buildSpec, chainNumber, configurationNamed } from "#test/support/farm-builders.ts";
import { uploadDispatch } from "#test/support/lane-bench.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const lamp = configurationNamed("lamp");
const signal = () => new AbortController().signal;
let home: TemporaryFolder;
let workspace: Workspace;
let bundle: { readonly digest: Digest; readonly bytes: Uint8Array };
let lines: string[];
let said: string[];

beforeEach(async () => {
  home = await temporaryFolder();
  workspace = new Workspace(join(home.path, "build"));
  const project = join(home.path, "project");
  await mkdir(project);
  await writeFile(join(project, "source.txt"), "source\n");
  const made = await makeCommandBundle(project);
  if (!made.ok) throw new Error(JSON.stringify(made));
  bundle = made;
  lines = [];
  said = [];
});
afterEach(() => home[Symbol.asyncDispose]());

const makes = (script: string): BuildSpec =>
  CommandBuildSpec.parse({
    driver: "command",
    bundle: bundle.digest,
    argv: ["sh", "-c", script],
    artifacts: ["*.bin"],
  });

const compileOf = (spec: BuildSpec): Dispatch => ({
  v: 1,
  job: "compile",
  chain: chainNumber(1),
  attempt: 1,
  configuration: lamp,
  spec,
});

const cleanOf = (trees: "configuration" | "all"): Dispatch => ({
  v: 1,
  job: "clean",
  chain: chainNumber(1),
  attempt: 1,
  configuration: lamp,
  trees,
});

/** Does a job with limits of the test's own; everything else is as it is in an agent, with stores that answer at once. */
async function does(
  dispatch: Dispatch,
  over: Partial<CompileServices> = {},
  limits: Partial<Record<Stage, StageLimit>> = {},
  stop = signal(),
): Promise<JobResult> {
  const handler = compileHandler({
    bundles: { get: async () => ({ ok: true, bytes: bundle.bytes }) },
    artifacts: { put: async () => undefined },
    workspace,
    environments: new EsphomeEnvironments({ cacheFolder: join(home.path, "cache"), clock: systemClock }),
    ledger: new GroupLedger(join(home.path, "groups")),
    clock: systemClock,
    limits: { ...stageLimits, ...limits },
    openLog: (_chain, job) => ({ line: (text) => lines.push(`${job}: ${text}`), close: async () => undefined }),
    say: (_chain, job, { phase }) => said.push(`${job}: ${phase}`),
    announceTrees: async () => undefined,
    ...over,
  });
  return handler(dispatch, { signal: stop, claimFlash: async () => "drop", mayStart: () => false });
}

const deadline = (stage: Stage, limit: "silence" | "total", limitMs: number) => ({
  kind: "failed",
  failure: { kind: "deadline", stage, limit, limitMs, effect: "none" },
});

/** The job ends by this limit and by no other, its log says so, and the farm tries it again or not. */
function expectDeadline(result: JobResult, expected: ReturnType<typeof deadline>, retry: string): void {
  expect(result).toEqual(expected);
  if (result.kind === "failed") expect(retryOf(result.failure)).toBe(retry);
  expect(lines.at(-1)).toContain(`(stage: ${expected.failure.stage})`);
}

const treeFolder = () => join(home.path, "build", "trees", escapeName("command"), escapeName(lamp));

test("a build is fetched, built and stored, and its stages are told", async () => {
  const stored: Digest[] = [];
  const put = async (digest: Digest) => void stored.push(digest);
  const result = await does(compileOf(makes("echo firmware > a.bin")), { artifacts: { put } });
  expect(result).toMatchObject({ kind: "built", manifest: { images: [{ name: "a.bin", digest: stored[0] }] } });
  expect(said).toEqual(["compile: fetching", "compile: compiling", "compile: storing"]);
  expect(await workspace.leftResults()).toEqual([]);
});

test("an upload that came down the compile lane is a bug that is reported", async () => {
  expect(await does(uploadDispatch(1))).toMatchObject({ kind: "failed", failure: { kind: "internal" } });
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
    const get: ObjectStore["get"] = (digest, transfer) => store.get(digest, frozenAfter(3, transfer ?? {}));
    const spec = CommandBuildSpec.parse({ ...makes("true"), bundle: digestOf(big) });
    const limits = { fetching: { silenceMs: 500, totalMs: 60_000 } };
    expectDeadline(
      await does(compileOf(spec), { bundles: { get } }, limits),
      deadline("fetching", "silence", 500),
      "later",
    );
  });

  test("storing an artifact ends by silence and is tried again later", async () => {
    const store = new ObjectStore(connection, objectStores.artifacts);
    const put: ObjectStore["put"] = (digest, bytes, transfer) =>
      store.put(digest, bytes, frozenAfter(3, transfer ?? {}));
    const limits = { storing: { silenceMs: 500, totalMs: 60_000 } };
    const result = await does(compileOf(makes("head -c 9000000 /dev/zero > a.bin")), { artifacts: { put } }, limits);
    expectDeadline(result, deadline("storing", "silence", 500), "later");
    expect(await workspace.leftResults()).toEqual([]);
  });

  test("a stop ends it at once", async () => {
    const store = new ObjectStore(connection, objectStores.bundles);
    const stop = new AbortController();
    const get: ObjectStore["get"] = (digest, transfer) => {
      const onChunk = () => stop.abort();
      return store.get(digest, { ...transfer, onChunk });
    };
    const spec = CommandBuildSpec.parse({ ...makes("true"), bundle: digestOf(big) });
    expect(await does(compileOf(spec), { bundles: { get } }, {}, stop.signal)).toEqual({ kind: "stopped" });
  });
});

describe("a store", () => {
  const away = async (_digest: Digest, transfer?: Transfer) => {
    transfer?.onChunk?.();
    throw new UnavailableError("no-answer", "the store has no leader");
  };

  test("that is away longer than a stage may take ends it by its total time", async () => {
    const fetching = { totalMs: 500 };
    const fetched = await does(compileOf(makes("true")), { bundles: { get: away } }, { fetching });
    expectDeadline(fetched, deadline("fetching", "total", 500), "later");
    const put: ObjectStore["put"] = (digest, _bytes, transfer) => away(digest, transfer);
    const spec = compileOf(makes("echo firmware > a.bin"));
    const stored = await does(spec, { artifacts: { put } }, { storing: { totalMs: 500 } });
    expectDeadline(stored, deadline("storing", "total", 500), "later");
  });

  test("that begins anew each time and gets no further is silent", async () => {
    const fetching = { silenceMs: 500, totalMs: 60_000 };
    const result = await does(compileOf(makes("true")), { bundles: { get: away } }, { fetching });
    expectDeadline(result, deadline("fetching", "silence", 500), "later");
  });

  test("that does not even end when it is called off holds up no job", async () => {
    const get = () => new Promise<never>(() => undefined);
    const fetching = { silenceMs: 300, totalMs: 60_000 };
    const result = await does(compileOf(makes("true")), { bundles: { get } }, { fetching });
    expectDeadline(result, deadline("fetching", "silence", 300), "later");
    const stop = new AbortController();
    const stopped = does(compileOf(makes("true")), { bundles: { get } }, {}, stop.signal);
    stop.abort();
    expect(await stopped).toEqual({ kind: "stopped" });
  });
});

test("a build that talks and then hangs ends by silence, and is never tried again", async () => {
  const limits = { compiling: { silenceMs: 500, totalMs: 60_000 } };
  const result = await does(compileOf(makes("echo one; echo two; exec sleep 600")), {}, limits);
  expectDeadline(result, deadline("compiling", "silence", 500), "never");
});

test("an environment that somebody else makes for ever ends by the total time, and another machine is tried", async () => {
  const held = await lockFolder(join(home.path, "cache", "esphome", "2026.10.0", "lock"), { clock: systemClock });
  const result = await does(compileOf(buildSpec()), {}, { environment: { silenceMs: 100, totalMs: 600 } });
  await held![Symbol.asyncDispose]();
  expectDeadline(result, deadline("environment", "total", 600), "elsewhere");
  expect(lines[0]).toContain("waiting for process");
});

test("a disk that hangs while a bundle is unpacked ends the build, and the tree waits for the disk", async () => {
  const own = join(treeFolder(), "source", ".flashyard");
  await mkdir(own, { recursive: true });
  execFileSync("mkfifo", [join(own, "files.json")]);
  const result = await does(compileOf(makes("true")), {}, { unpacking: { totalMs: 500 } });
  expectDeadline(result, deadline("unpacking", "total", 500), "elsewhere");
  // Reading it waits for a writer; until then nobody gets the tree.
  const cleaning = { totalMs: 300 };
  expectDeadline(await does(cleanOf("configuration"), {}, { cleaning }), deadline("cleaning", "total", 300), "never");
  const next = does(cleanOf("configuration"));
  await (await open(join(own, "files.json"), "w")).close();
  expect(await next).toEqual({ kind: "cleaned", trees: 1 });
});

test("collecting what was built has its time", async () => {
  const result = await does(compileOf(makes("echo firmware > a.bin")), {}, { collecting: { totalMs: 0 } });
  expectDeadline(result, deadline("collecting", "total", 0), "elsewhere");
});

describe("a clean", () => {
  const warm = (name: string) =>
    workspace.withTree({ version: "2026.10.0", configuration: configurationNamed(name) }, undefined, ({ source }) =>
      writeFile(join(source, "object.o"), "warm"),
    );

  test("takes the trees of its configuration away and has its own log", async () => {
    await Promise.all([warm("lamp"), warm("fan")]);
    expect(await does(cleanOf("configuration"))).toEqual({ kind: "cleaned", trees: 1 });
    expect((await workspace.warmTrees()).map((tree) => tree.configuration)).toEqual(["fan"]);
    expect(said).toEqual(["clean: cleaning"]);
    expect(lines).toEqual(["clean: taking the build trees of lamp away", "clean: 1 build tree is gone"]);
  });

  test("of everything takes every tree away", async () => {
    await Promise.all([warm("lamp"), warm("fan")]);
    expect(await does(cleanOf("all"))).toEqual({ kind: "cleaned", trees: 2 });
    expect(await workspace.warmTrees()).toEqual([]);
    expect(lines.at(-1)).toBe("clean: 2 build trees are gone");
  });

  test("has the statement without the trees made before it is over", async () => {
    await warm("lamp");
    const told: number[] = [];
    const gate = Promise.withResolvers<void>();
    const isAsked = Promise.withResolvers<void>();
    let isOver = false;
    const announceTrees = async () => {
      told.push((await workspace.warmTrees()).length);
      isAsked.resolve();
      await gate.promise;
    };
    const cleaning = does(cleanOf("configuration"), { announceTrees }).finally(() => (isOver = true));
    await isAsked.promise;
    expect(isOver).toBe(false);
    gate.resolve();
    expect(await cleaning).toEqual({ kind: "cleaned", trees: 1 });
    expect(new Set(told)).toEqual(new Set([0]));
  });

  test("that is told to stop while a build has the tree is stopped, and the tree stands", async () => {
    const gate = Promise.withResolvers<void>();
    const isIn = Promise.withResolvers<void>();
    const build = workspace.withTree({ version: "2026.10.0", configuration: lamp }, undefined, async () => {
      isIn.resolve();
      await gate.promise;
    });
    await isIn.promise;
    const stop = new AbortController();
    const cleaning = does(cleanOf("configuration"), {}, {}, stop.signal);
    stop.abort();
    expect(await cleaning).toEqual({ kind: "stopped" });
    gate.resolve();
    await build;
    expect(await workspace.warmTrees()).toHaveLength(1);
  });

  test("whose agent has no room to move trees says which file and why", async () => {
    await warm("lamp");
    await writeFile(join(home.path, "build", "removed"), "in the way");
    const result = await does(cleanOf("configuration"));
    expect(result).toMatchObject({
      kind: "failed",
      failure: { kind: "tree-stuck", code: "EEXIST", isOut: false, trees: 0 },
    });
    expect(lines.at(-1)).toContain("cannot be taken away (EEXIST: ");
    expect(await workspace.warmTrees()).toHaveLength(1);
  });

  test("says of a tree that cannot leave its place what the system says", async () => {
    await warm("lamp");
    await mkdir(join(home.path, "elsewhere"));
    execFileSync("ln", ["-s", "/proc/self", join(home.path, "build", "removed")]);
    const result = await does(cleanOf("configuration"));
    expect(result).toMatchObject({ failure: { kind: "tree-stuck", isOut: false, trees: 0 } });
  });
});
