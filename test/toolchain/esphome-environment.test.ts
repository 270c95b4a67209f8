import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { isGroupAlive, GroupLedger } from "#actor/process-group.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const version = "2026.10.0";
const fixture = join(import.meta.dirname, "../fixtures/fake-python.sh");
let home: TemporaryFolder;
let cache: string;
let python: string;

beforeEach(async () => {
  home = await temporaryFolder();
  cache = join(home.path, "cache");
  python = join(home.path, "python", "python3.12");
  await mkdir(join(home.path, "python"));
  await copyFile(fixture, python);
  await chmod(python, 0o755);
  await writeFile(join(home.path, "python", "python-version"), "3.12.1");
});
afterEach(() => home[Symbol.asyncDispose]());

/** Shell in place of pip; `$here` is the environment's bin folder, `$7` and later the requirement. */
const setPip = (behaviour: string) => writeFile(join(home.path, "python", "pip-behaviour"), behaviour);
const installs = (answer = version) =>
  `echo install >> ${join(home.path, "installs")}; printf '#!/bin/sh\\necho "Version: ${answer}"\\n' > "$here/esphome"; chmod +x "$here/esphome"`;
const environments = (ledger?: GroupLedger) =>
  new EsphomeEnvironments({
    cacheFolder: cache,
    clock: systemClock,
    pythonHint: python,
    ...(ledger === undefined ? {} : { ledger }),
  });
const installCount = async () => (await readFile(join(home.path, "installs"), "utf8")).trim().split("\n").length;
const leftFolders = async () =>
  (await readdir(join(cache, "esphome", version))).filter((name) => name.startsWith("env-"));

test("an environment is made once, also when many ask at the same time, and is then ready for every process", async () => {
  await setPip(installs());
  const lines: string[] = [];
  const all = await Promise.all(
    [1, 2, 3].map(() => environments().ensure(version, { onLine: (line) => lines.push(line) })),
  );
  const paths = all.map((result) => (result.ok ? result.env.esphome : JSON.stringify(result)));
  expect(new Set(paths).size).toBe(1);
  expect(await installCount()).toBe(1);
  expect(lines).toContain(`making the environment of ESPHome ${version} with Python 3.12.1`);
  expect(await environments().ready()).toEqual([version]);
  const again = await environments().ensure(version);
  expect(again).toMatchObject({ ok: true, env: { version, esphome: paths[0] } });
  expect(again.ok && again.env.variables["PATH"]!.startsWith(join(paths[0]!, ".."))).toBe(true);
});

test("a half-made environment is thrown away and made anew", async () => {
  const half = join(cache, "esphome", version, "env-half", "bin");
  await mkdir(half, { recursive: true });
  await writeFile(join(half, "esphome"), "#!/bin/sh\n", { mode: 0o755 });
  expect(await environments().ready()).toEqual([]);
  await setPip(installs());
  expect(await environments().ensure(version)).toMatchObject({ ok: true });
  expect(await leftFolders()).not.toContain("env-half");
  expect(await leftFolders()).toHaveLength(1);
});

test("an environment that lost its files is made anew", async () => {
  await setPip(installs());
  const first = await environments().ensure(version);
  if (!first.ok) throw new Error(JSON.stringify(first));
  await rm(first.env.esphome);
  expect(await environments().ready()).toEqual([]);
  const second = await environments().ensure(version);
  expect(second.ok && second.env.esphome !== first.env.esphome).toBe(true);
  expect(await leftFolders()).toHaveLength(1);
});

test("an installation that does not answer with its version is not published", async () => {
  await setPip(installs("2026.9.0"));
  const result = await environments().ensure(version);
  expect(result).toMatchObject({ ok: false, failure: { kind: "toolchain-missing", missing: `ESPHome ${version}` } });
  expect(await leftFolders()).toEqual([]);
});

test("calling it off ends pip and its children, and leaves nothing", async () => {
  const started = join(home.path, "started");
  await setPip(`sleep 600 & echo $$ > ${started}.draft; mv ${started}.draft ${started}; wait`);
  const abort = new AbortController();
  const making = environments(new GroupLedger(join(home.path, "groups"))).ensure(version, { signal: abort.signal });
  const pid = await poll(systemClock, { everyMs: 10, withinMs: 10_000 }, () =>
    readFile(started, "utf8").then(Number, () => undefined),
  );
  expect(isGroupAlive(pid!)).toBe(true);
  abort.abort();
  expect(await making).toEqual({ ok: false, aborted: true });
  expect(isGroupAlive(pid!)).toBe(false);
  expect(await leftFolders()).toEqual([]);
  await setPip(installs());
  expect(await environments().ensure(version)).toMatchObject({ ok: true });
});

test("a pip that falls silent, or never comes to an end, is ended with its children, and another machine may do better", async () => {
  const started = join(home.path, "started");
  await setPip(`echo $$ > ${started}; echo Collecting esphome; sleep 600 & wait`);
  const deadline = { kind: "deadline", stage: "environment", effect: "none" };
  const silent = await environments().ensure(version, { limit: { silenceMs: 500, totalMs: 60_000 } });
  expect(silent).toMatchObject({ failure: { ...deadline, limit: "silence", limitMs: 500 } });
  expect(isGroupAlive(Number(await readFile(started, "utf8")))).toBe(false);
  expect(await leftFolders()).toEqual([]);
  await setPip("while :; do echo Collecting more; sleep 0.05; done");
  const endless = await environments().ensure(version, { limit: { silenceMs: 5_000, totalMs: 1_000 } });
  expect(endless).toMatchObject({ failure: { ...deadline, limit: "total", limitMs: 1_000 } });
  expect(await leftFolders()).toEqual([]);
});

test("pip's refusals become failures that say what to do", async () => {
  const says = (text: string) => setPip(`echo "${text}" >&2; exit 1`);
  await says(
    `ERROR: Could not find a version that satisfies the requirement esphome==2026.10.9 (from versions: 2026.9.0, 2026.10.0)
ERROR: No matching distribution found for esphome==2026.10.9`,
  );
  expect(await environments().ensure("2026.10.9")).toMatchObject({
    failure: {
      kind: "version-unknown",
      detail: "the package index has no such release; the nearest are 2026.10.0, 2026.9.0",
    },
  });
  await says("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device");
  expect(await environments().ensure(version)).toMatchObject({ failure: { kind: "disk-full" } });
  await says("ERROR: Could not find a version that satisfies the requirement esphome==2026.10.0 (from versions: none)");
  expect(await environments().ensure(version)).toMatchObject({ failure: { kind: "toolchain-missing" } });
});

test("a release that wants another Python than this machine has names both", async () => {
  await setPip(
    `echo "ERROR: Ignored the following versions that require a different python version: 2027.3.0 Requires-Python >=3.13" >&2
echo "ERROR: No matching distribution found for esphome==2027.3.0" >&2; exit 1`,
  );
  expect(await environments().ensure("2027.3.0")).toMatchObject({
    failure: { kind: "toolchain-missing", missing: "Python >=3.13 for ESPHome 2027.3.0" },
  });
  await writeFile(join(home.path, "python", "python-version"), "3.10.2");
  const result = await environments().ensure(version);
  expect(result).toMatchObject({
    failure: { kind: "toolchain-missing", missing: `Python >=3.12 for ESPHome ${version}` },
  });
  expect(JSON.stringify(result)).toContain(`${python} is 3.10.2; install one`);
});

test("text that is no version never becomes a folder or an argument of pip", async () => {
  for (const wrong of ["../evil", "2026.10", "--help", "2026.10.0; touch x"]) {
    expect(await environments().ensure(wrong)).toMatchObject({ failure: { kind: "version-unknown", version: wrong } });
  }
});
