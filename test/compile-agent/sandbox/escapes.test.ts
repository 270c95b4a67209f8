/** Real programs try to get out of a build, through the real driver. */
import { createServer } from "node:net";
import { open, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { GroupLedger } from "#actor/process-group.ts";
import { chooseSandbox } from "#compile-agent/sandbox/choose.ts";
import { type AttemptOptions, EscapeBench, plainSettings } from "#test/support/escape-bench.ts";

let bench: EscapeBench;
let lines: string[];

beforeEach(async () => {
  bench = await EscapeBench.open("bubblewrap");
  lines = bench.lines;
});
afterEach(() => bench[Symbol.asyncDispose]());

const secret = (...path: string[]) => bench.secret(...path);
const run = (argv: string[], options?: AttemptOptions) => bench.run(argv, options);
const attempt = (name: string, args?: string[], options?: AttemptOptions) => bench.attempt(name, args, options);
const keptIn = (name: string, args?: string[], options?: AttemptOptions) => bench.keptIn(name, args, options);

test("the agent's key, other bundles and results cannot be read", async () => {
  await keptIn("read", [
    await secret("agent.key"),
    await secret("bundles/abc"),
    await secret("build/results/1/image"),
    await secret("spool/result.json"),
  ]);
});

test("home folders, the machine's secrets and its settings cannot be read", async () => {
  await keptIn("read", [
    "/root/.bashrc",
    "/etc/shadow",
    "/etc/flashyard/agent.env",
    "/etc/hostname",
    "/var/log/dpkg.log",
  ]);
});

test("the agent's folder is not found by the roads through /proc or up from the tree", async () => {
  await keptIn("root", [await secret("agent.key")]);
});

test("the tree of another configuration is neither read nor changed", async () => {
  const other = await bench.secretInTree("fan");
  await keptIn("read", [other]);
  await keptIn("write", [other]);
  expect(await readFile(other, "utf8")).toBe("the secret\n");
});

test("nothing is written outside of the tree, and nothing into what is readable", async () => {
  const environment = await secret("environment/bin/esphome");
  const readable = [dirname(environment)];
  await keptIn("write", [environment, "/usr/bin/planted", "/etc/planted", "/planted", "/dev/planted", "/lib/planted"], {
    settings: { readable },
  });
  expect(await readFile(environment, "utf8")).toBe("the secret\n");
});

test("the notes beside the tree and the record of its bundle cannot be forged", async () => {
  const folder = dirname(dirname(await bench.secretInTree("lamp")));
  // Above the tree there is at most a folder in memory, which goes with the build.
  await attempt("write", ["../tree.json", "../last-build.json", "../planted.json", ".flashyard/files.json"]);
  expect(lines).toContain("tried write");
  expect((await readdir(folder)).toSorted()).toEqual(["built", "source", "tree.json"]);
  for (const file of ["built", "tree.json", "source/.flashyard/files.json"]) {
    expect(await readFile(join(folder, file), "utf8")).not.toContain("planted");
  }
});

test("a link to a secret is no artifact, and a folder that is a link leads nowhere", async () => {
  const key = await secret("agent.key");
  const links = `ln -s ${key} key.bin; ln -s ${dirname(key)} out`;
  expect(await run(["sh", "-c", links], { artifacts: ["key.bin"] })).toMatchObject({
    failure: { kind: "artifact-missing" },
  });
  expect(await run(["sh", "-c", "true"], { artifacts: ["out/agent.key"] })).toMatchObject({
    failure: { kind: "artifact-missing" },
  });
});

test("a secret cannot be linked into the tree", async () => {
  await keptIn("link", [await secret("agent.key")]);
  await keptIn("link", ["/etc/passwd"]);
});

test("the agent can neither be killed nor traced", async () => {
  await keptIn("kill", [String(process.pid)]);
  await keptIn("ptrace", [String(process.pid)]);
});

test("the agent's processes and environment are not to be seen", async () => {
  await keptIn("environ", ["VITEST"]);
  await keptIn("processes");
});

test("a unix socket of the machine is out of reach", async () => {
  const path = join(bench.home, "s");
  const server = createServer().listen(path);
  await once(server, "listening");
  await keptIn("connect", [path]);
  server.close();
});

test("without a network neither abstract sockets nor the machine's own ports are reached", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const abstract = createServer().listen("\0flashyard-escape");
  await once(abstract, "listening");
  const settings = { hasNetwork: false };
  await keptIn("tcp", [String((server.address() as { port: number }).port)], { settings });
  await keptIn("abstract", ["flashyard-escape"], { settings });
  server.close();
  abstract.close();
});

test("nothing is mounted, no namespace made, no disk and no memory of the machine read", async () => {
  await keptIn("mount");
  await keptIn("devices");
});

test("a file that the agent has open is not open in a build", async () => {
  await using key = await open(await secret("agent.key"));
  expect(key.fd).toBeGreaterThan(2);
  await keptIn("descriptors", ["agent.key"]);
});

test("a setuid program loses that as an artifact, and nobody else gets to the tree", async () => {
  const result = await attempt("setuid", [], { artifacts: ["tool.bin"] });
  if (!result.ok) throw new Error(JSON.stringify(result));
  expect((await stat(result.images[0]!.path)).mode & 0o6000).toBe(0);
  expect((await stat(join(bench.agent, "build/trees"))).mode & 0o077).toBe(0);
});

test("a fork bomb ends at the limit of processes", async () => {
  expect(await attempt("forks")).toMatchObject({
    failure: { kind: "limit-exceeded", resource: "processes", limit: 60 },
  });
});

test("a memory hog ends at the limit of memory", async () => {
  const settings = { memoryBytesMax: 200_000_000 };
  expect(await attempt("memory", [], { settings })).toMatchObject({
    failure: { kind: "limit-exceeded", resource: "memory", limit: 200_000_000 },
  });
});

test("many files and one large file end at the limit of the disk", async () => {
  for (const name of ["disk", "file"]) {
    expect(await attempt(name), lines.join("\n")).toMatchObject({
      failure: { kind: "limit-exceeded", resource: "disk", limit: 100_000_000 },
    });
  }
});

test("a daemon that has left its session dies with the build, and the ledger is empty", async () => {
  const ledger = new GroupLedger(join(bench.home, "groups"));
  const result = await attempt("detach", ["of-bubblewrap"], { ledger, artifacts: ["alive"] });
  expect(result, lines.join("\n")).toMatchObject({ ok: true });
  expect(await readdir(join(bench.home, "groups"))).toEqual([]);
  const isAlive = (await readdir("/proc"))
    .filter((name) => /^\d+$/.test(name))
    .map(async (pid) =>
      (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).includes("escapes.py\0detach\0of-bubblewrap"),
    );
  expect((await Promise.all(isAlive)).includes(true)).toBe(false);
});

test("calling a build off ends what has left its session", async () => {
  const abort = new AbortController();
  const script = "setsid sh -c 'setsid sleep 54321 & echo started; wait' & wait";
  const result = await run(["sh", "-c", script], { signal: abort.signal, onLine: () => abort.abort() });
  expect(result).toEqual({ ok: false, aborted: true });
  const commands = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(commands.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")));
  expect(lines.filter((line) => line.startsWith("sleep\u000054321"))).toEqual([]);
});

test("what a build leaves in its tree reaches no file of the agent's when the next bundle is unpacked", async () => {
  const key = await secret("agent.key");
  expect(
    await run(["sh", "-c", `ln -sf ${key} escapes.new; rm escapes.py; ln -s ${key} escapes.py; cp /etc/hosts a.bin`], {
      artifacts: ["a.bin"],
    }),
  ).toMatchObject({ ok: true });
  await writeFile(join(bench.project, "escapes.new"), "of the bundle");
  expect(await run(["true"])).toMatchObject({ ok: true });
  expect(await readFile(key, "utf8")).toBe("the secret\n");
});

test("a tool that one configuration plants is not in the home of another where homes are their own", async () => {
  const settings = { sharesTools: false };
  const plant = ["sh", "-c", "mkdir -p $HOME/bin && echo planted > $HOME/bin/cc && cp $HOME/bin/cc a.bin"];
  expect(await run(plant, { settings, artifacts: ["a.bin"] })).toMatchObject({ ok: true });
  expect(await run(["sh", "-c", "test ! -e $HOME/bin/cc"], { settings, name: "fan" })).toMatchObject({ ok: true });
});

test("a level that does not work here fails with what is missing, and auto goes without", async () => {
  const path = process.env["PATH"];
  await symlink("/nowhere", join(bench.home, "nothing"));
  process.env["PATH"] = bench.home;
  try {
    await expect(bench.sandbox()).rejects.toThrow(/no bwrap on the PATH \(apt install bubblewrap\)/);
    expect((await chooseSandbox("auto", plainSettings, bench.place)).level).toBe("none");
  } finally {
    process.env["PATH"] = path;
  }
  expect((await chooseSandbox("auto", plainSettings, bench.place)).level).toBe("bubblewrap");
});
