/** Real programs, as a user of their own, try to get at the agent that started them. Started as root. */
import { chmod, lstat, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { UserProcesses } from "#actor/user-processes.ts";
import { findBuildUser, missingCapabilities } from "#compile-agent/sandbox/build-user.ts";
import { chooseSandbox } from "#compile-agent/sandbox/choose.ts";
import { type AttemptOptions, EscapeBench, plainSettings } from "#test/support/escape-bench.ts";

/** Nobody else's: no user of the database is needed. */
const uid = 70_000 + (process.pid % 50_000);
const buildUser = `${uid}:${uid}`;
let bench: EscapeBench;

beforeEach(async () => {
  bench = await EscapeBench.open("user", { buildUser });
  await chmod(bench.home, 0o711);
});
afterEach(() => bench[Symbol.asyncDispose]());

const keptIn = (name: string, args?: string[], options?: AttemptOptions) => bench.keptIn(name, args, options);

test("a build is its user, without groups, and cannot become another one", async () => {
  const script =
    "id -u; id -G; sudo -n true 2>/dev/null; su -c true 2>/dev/null; grep -E 'NoNewPrivs|CapEff' /proc/self/status";
  await bench.run(["sh", "-c", script]);
  expect(bench.lines).toEqual([String(uid), String(uid), "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]);
});

test("the agent's key, bundles, results and settings cannot be read, whatever their modes are", async () => {
  await keptIn("read", [
    await bench.secret("credentials.json"),
    await bench.secret("bundles/abc"),
    await bench.secret("build/results/1/image"),
    await bench.secret("results/result.json"),
    "/etc/shadow",
    "/root/.bashrc",
  ]);
  await keptIn("list", [bench.agent]);
  await keptIn("list", [join(bench.agent, "build/trees")]);
  await keptIn("link", [await bench.secret("credentials.json")]);
});

test("nothing outside of the tree is written, nor the notes beside it and the record of its bundle", async () => {
  await bench.attempt("write", [
    "../tree.json",
    "../planted",
    ".flashyard/files.json",
    "../../planted",
    "/usr/bin/planted",
  ]);
  expect(bench.lines).toContain("tried write");
  expect(bench.lines.filter((line) => line.startsWith("ESCAPED"))).toEqual([]);
  await bench.run(["sh", "-c", "mv .flashyard elsewhere && echo ESCAPED; rm -rf .flashyard && echo ESCAPED; true"]);
  expect(bench.lines.filter((line) => line.startsWith("ESCAPED"))).toEqual([]);
});

test("the agent can neither be killed, traced nor read", async () => {
  await keptIn("kill", [String(process.pid)]);
  await keptIn("ptrace", [String(process.pid)]);
  await keptIn("environ", ["VITEST"]);
  await keptIn("root", [await bench.secret("credentials.json")]);
});

test("nothing is mounted, no disk and no memory of the machine read", async () => {
  await keptIn("devices");
  await keptIn("descriptors", ["credentials.json"]);
});

test("a fork bomb, a memory hog and one that fills the disk end at their limits", async () => {
  expect(await bench.attempt("forks")).toMatchObject({ failure: { kind: "limit-exceeded", resource: "processes" } });
  const settings = { memoryBytesMax: 200_000_000 };
  expect(await bench.attempt("memory", [], { settings })).toMatchObject({
    failure: { kind: "limit-exceeded", resource: "memory" },
  });
  for (const name of ["disk", "file"]) {
    expect(await bench.attempt(name)).toMatchObject({ failure: { kind: "limit-exceeded", resource: "disk" } });
  }
  expect(new UserProcesses(uid).strays()).toEqual([]);
});

test("a daemon that has left its session dies with the build", async () => {
  const ledger = new GroupLedger(join(bench.home, "groups"));
  expect(await bench.attempt("detach", [], { ledger, artifacts: ["alive"] })).toMatchObject({ ok: true });
  expect(await readdir(join(bench.home, "groups"))).toEqual([]);
  expect(new UserProcesses(uid).strays()).toEqual([]);
});

test("a build that ends leaves another one alone that runs beside it", async () => {
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const sandbox = await bench.sandbox();
  const long = bench.run(
    ["sh", "-c", "echo started; until [ -e ../tmp/go ]; do sleep 0.01; done; cp escapes.py a.bin"],
    {
      name: "fan",
      artifacts: ["a.bin"],
      sandbox,
      onLine: (line) => (line === "started" ? start() : undefined),
    },
  );
  await started;
  expect(await bench.attempt("detach", [], { artifacts: ["alive"], sandbox })).toMatchObject({ ok: true });
  const trees = join(bench.agent, "build/trees");
  const [version] = await readdir(trees);
  const fan = (await readdir(join(trees, version!))).find((name) => name.startsWith("fan"))!;
  await writeFile(join(trees, version!, fan, "tmp/go"), "");
  expect(await long).toMatchObject({ ok: true });
});

test("what a killed agent left of its builds is ended by the next start", async () => {
  const { promise: left, resolve: leave } = Promise.withResolvers<number>();
  const ledger = new GroupLedger(join(bench.home, "groups"));
  const sandbox = await bench.sandbox();
  const tree = await bench.secretInTree("fan");
  const folder = dirname(dirname(tree));
  const confined = await sandbox.confine({ folder, source: join(folder, "source"), keepFor: () => {} });
  const daemon = "setsid sh -c 'echo $$; touch ready; exec sleep 600' & until [ -e ready ]; do sleep 0.01; done";
  const argv = ["sh", "-c", daemon];
  const { beyond, ...start } = confined({ argv, cwd: join(folder, "source"), env: plainEnvironment() });
  await runProcess({ ...start, onLine: (line) => leave(Number(line)) });
  expect(new UserProcesses(uid).strays()).toEqual([await left]);
  // The note of a build that nobody has ended.
  await ledger.note(2 ** 22 - 1, beyond!.endCommand);
  expect(await ledger.endLeftovers(systemClock)).toEqual([]);
  expect(new UserProcesses(uid).strays()).toEqual([]);
});

test("files of the next bundle are the build's, also in folders that it has made, and unchanged ones keep their time", async () => {
  await mkdir(join(bench.project, "sub"));
  await writeFile(join(bench.project, "sub/a.txt"), "one");
  const all = ["sh", "-c", "echo more >> sub/a.txt; mkdir -p sub/deep; touch escapes.py sub/deep; rm -f gone.txt"];
  expect(await bench.run(all), bench.lines.join("\n")).toMatchObject({ ok: true });
  await writeFile(join(bench.project, "gone.txt"), "two");
  await mkdir(join(bench.project, "sub/deep"));
  await writeFile(join(bench.project, "sub/deep/b.txt"), "three");
  expect(await bench.run([...all.slice(0, 2), `set -e; ${all[2]}; echo x > sub/deep/b.txt`])).toMatchObject({
    ok: true,
  });
  const source = dirname(await bench.secretInTree("lamp"));
  expect((await lstat(join(source, "sub/deep/b.txt"))).uid).toBe(uid);
  expect((await lstat(join(source, ".flashyard/files.json"))).uid).toBe(0);
});

test("a tree that was built at another level before is the build's, and taken back by the next", async () => {
  const source = dirname(await bench.secretInTree("lamp"));
  await writeFile(join(source, "old.txt"), "old");
  expect(await bench.run(["sh", "-c", "echo new > other.txt"])).toMatchObject({ ok: true });
  expect(await readFile(join(source, "other.txt"), "utf8")).toBe("new\n");
  const inBubblewrap = await chooseSandbox("bubblewrap", plainSettings, bench.place);
  const script = ["sh", "-c", "echo newer > other.txt; echo newer > escapes.py"];
  expect(await bench.run(script, { sandbox: inBubblewrap }), bench.lines.join("\n")).toMatchObject({ ok: true });
  expect(await readFile(join(source, "other.txt"), "utf8")).toBe("newer\n");
  expect((await lstat(source)).mode & 0o7777).toBe(0o755);
});

test("setuid programs lose that as artifacts, and nobody else gets to the tree", async () => {
  const result = await bench.attempt("setuid", [], { artifacts: ["tool.bin"] });
  if (!result.ok) throw new Error(JSON.stringify(result));
  expect((await lstat(result.images[0]!.path)).mode & 0o6000).toBe(0);
  for (const folder of ["", "build", "build/trees"])
    expect((await lstat(join(bench.agent, folder))).mode & 0o067).toBe(0);
});

test("where it cannot work, the start says why and what to do", async () => {
  const refusal = (buildUser: string, more = {}) =>
    bench.sandbox({ buildUser, ...more }).then(
      () => "works",
      (error: unknown) => String(error),
    );
  expect(await refusal("no-such-user")).toMatch(
    /there is no user no-such-user: make one with `useradd .* no-such-user`/,
  );
  expect(await refusal("0:0")).toMatch(/0:0 is root/);
  expect(await refusal(buildUser, { hasNetwork: false })).toMatch(/cannot take the network/);
  await chmod(bench.home, 0o700);
  expect(await refusal(buildUser)).toMatch(`${buildUser} cannot pass ${bench.home}`);
  const owner = String(uid + 1);
  const stranger = runProcess({
    argv: ["setpriv", "--reuid", owner, "--regid", owner, "--clear-groups", "sleep", "600"],
    env: plainEnvironment(),
    signal: AbortSignal.timeout(2_000),
  });
  await expect.poll(() => new UserProcesses(uid + 1).strays().length).toBe(1);
  expect(await refusal(`${owner}:${owner}`)).toMatch(/has processes that are no builds/);
  await stranger;
});

test("users are found by name or by number, and what an agent lacks is named", async () => {
  expect(await findBuildUser("nobody")).toEqual({ name: "nobody", uid: 65_534, gid: 65_534 });
  expect(await findBuildUser("123:456")).toEqual({ name: "123:456", uid: 123, gid: 456 });
  expect(missingCapabilities()).toEqual([]);
  expect(missingCapabilities("CapEff:\t0000000000000021\n")).toEqual([
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
  ]);
});
