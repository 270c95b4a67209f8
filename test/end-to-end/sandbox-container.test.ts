/** Attempts to get out of a container, of a real docker that is started for it. Started as root; needs dockerd. */
import { mkdir, readdir, readFile, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment, type ProcessResult, runProcess } from "#actor/subprocess.ts";
import { type AttemptOptions, EscapeBench } from "#test/support/escape-bench.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const image = "flashyard-test:1";
/** The machine's own programs: the image has none. */
const readable = ["/usr", "/etc/alternatives"];
const ending = new AbortController();
let room: TemporaryFolder;
let engineVariables: { readonly DOCKER_HOST: string };
let engine: Promise<ProcessResult>;
let bench: EscapeBench;

const docker = (...args: string[]) =>
  runProcess({ argv: ["docker", ...args], env: plainEnvironment(engineVariables), totalMs: 30_000 });

beforeAll(async () => {
  room = await temporaryFolder();
  const socket = `unix://${join(room.path, "socket")}`;
  engineVariables = { DOCKER_HOST: socket };
  const places = ["data-root", "exec-root", "pidfile"].map((name) => `--${name}=${join(room.path, name)}`);
  const argv = ["dockerd", `--host=${socket}`, ...places, "--storage-driver=vfs", "--bridge=none", "--iptables=false"];
  engine = runProcess({ argv, env: plainEnvironment(), signal: ending.signal, graceMs: 20_000 });
  const limits = { everyMs: 200, withinMs: 60_000 };
  await poll(systemClock, limits, async () => ((await docker("info")).end.kind === "exited" ? true : undefined));
  const root = join(room.path, "root");
  for (const folder of ["tmp", "proc", "dev", "sys", "etc", "usr"])
    await mkdir(join(root, folder), { recursive: true });
  for (const name of ["bin", "lib", "lib64"]) await symlink(`usr/${name}`, join(root, name));
  const script = `tar -C "$1" -c . | docker import - ${image}`;
  const imported = () =>
    runProcess({ argv: ["sh", "-c", script, "sh", root], env: plainEnvironment(engineVariables), totalMs: 30_000 });
  const isThere = await poll(systemClock, limits, async () => {
    const { end } = await imported();
    return end.kind === "exited" && end.exitCode === 0 ? true : undefined;
  });
  expect(isThere).toBe(true);
});
afterAll(async () => {
  ending.abort();
  await engine;
  await rm(room.path, { recursive: true, force: true });
});

beforeEach(async () => {
  bench = await EscapeBench.open("container", { image, readable, engineVariables, hasNetwork: false });
});
afterEach(() => bench[Symbol.asyncDispose]());

const keptIn = (name: string, args?: string[], options?: AttemptOptions) => bench.keptIn(name, args, options);
const containers = async () => (await docker("ps", "--all", "--quiet")).tail;

test("the agent's key, other trees and the machine's secrets cannot be read", async () => {
  const key = await bench.secret("credentials.json");
  await keptIn("read", [
    key,
    await bench.secret("bundles/abc"),
    await bench.secretInTree("fan"),
    "/etc/shadow",
    "/root/.bashrc",
  ]);
  await keptIn("root", [key]);
  await keptIn("link", [key]);
});

test("nothing is written outside of the tree, nor the record in it", async () => {
  await keptIn("write", ["/usr/bin/planted", "/etc/planted", "/planted", ".flashyard/files.json"]);
});

test("the agent is not to be seen, killed or traced, and nothing is mounted", async () => {
  for (const name of ["kill", "ptrace"]) await keptIn(name, [String(process.pid)]);
  await keptIn("processes");
  await keptIn("environ", ["VITEST"]);
  await keptIn("mount");
  await keptIn("devices");
});

test("a memory hog is killed, and many files end at the limit of the disk", async () => {
  const settings = { memoryBytesMax: 200_000_000 };
  expect(await bench.attempt("memory", [], { settings })).toMatchObject({
    failure: { kind: "compiler-exit", exitCode: 137 },
  });
  expect(await bench.attempt("disk")).toMatchObject({ failure: { kind: "limit-exceeded", resource: "disk" } });
});

test("a daemon dies with its build, and calling a build off leaves no container", async () => {
  const ledger = new GroupLedger(join(bench.home, "groups"));
  expect(await bench.attempt("detach", [], { ledger, artifacts: ["alive"] })).toMatchObject({ ok: true });
  expect(await readdir(join(bench.home, "groups"))).toEqual([]);
  const abort = new AbortController();
  const deaf = "trap '' TERM; echo started; while :; do sleep 0.1; done";
  const result = await bench.run(["sh", "-c", deaf], { signal: abort.signal, onLine: () => abort.abort() });
  expect(result).toEqual({ ok: false, aborted: true });
  expect(await containers()).toEqual([]);
});

test("what a killed agent left running is ended by the next start", async () => {
  const ledger = new GroupLedger(join(bench.home, "groups"));
  const folder = dirname(dirname(await bench.secretInTree("fan")));
  const source = join(folder, "source");
  await mkdir(join(source, ".flashyard"));
  const sandbox = await bench.sandbox();
  const confined = await sandbox.confine({ folder, source, keepFor: () => {} });
  const { beyond, ...start } = confined({ argv: ["sleep", "600"], cwd: source, env: plainEnvironment() });
  const abort = new AbortController();
  const running = runProcess({ ...start, signal: abort.signal, graceMs: 0 });
  const limits = { everyMs: 100, withinMs: 20_000 };
  expect(await poll(systemClock, limits, async () => ((await containers()).length === 1 ? true : undefined))).toBe(
    true,
  );
  await ledger.note(2 ** 22 - 1, beyond!.endCommand);
  expect(await ledger.endLeftovers(systemClock)).toEqual([]);
  expect(await containers()).toEqual([]);
  abort.abort();
  await running;
});

test("an image that is not there, and an engine that is not, are named", async () => {
  await expect(bench.sandbox({ image: "nothing:1" })).rejects.toThrow(/docker pull nothing:1/);
  await expect(bench.sandbox({ image: undefined })).rejects.toThrow(/FLASHYARD_SANDBOX_IMAGE/);
  expect(await readFile(await bench.secret("credentials.json"), "utf8")).toBe("the secret\n");
});
