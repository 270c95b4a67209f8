import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { type EsptoolSearch, findEsptool } from "#upload-agent/serial/esptool-environment.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fakePython = join(import.meta.dirname, "../../fixtures/fake-python.sh");

let folder: TemporaryFolder;

beforeEach(async () => {
  folder = await temporaryFolder();
});

afterEach(() => folder[Symbol.asyncDispose]());

async function script(path: string, text: string): Promise<string> {
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
  return path;
}

const esptoolOf = (name: string, version: string) =>
  script(join(folder.path, name), `echo esptool v${version}; echo ${version}`);

/** A Python whose pip does what the script says; `$here` is the environment's folder of programs. */
async function pythonWith(pip: string): Promise<string> {
  const place = join(folder.path, "python");
  await mkdir(place, { recursive: true });
  await copyFile(fakePython, join(place, "python3"));
  await writeFile(join(place, "python-version"), "3.12.4");
  await writeFile(join(place, "pip-behaviour"), pip);
  await chmod(join(place, "python3"), 0o755);
  return join(place, "python3");
}

const installs = (version: string) =>
  `echo "$@" >> "${folder.path}/pip-calls"; printf '#!/bin/sh\\necho esptool v${version}\\n' > "$here/esptool"; chmod +x "$here/esptool"`;

function search(rest: Partial<EsptoolSearch>): EsptoolSearch {
  return { cacheFolder: join(folder.path, "cache"), clock: systemClock, path: join(folder.path, "bin"), ...rest };
}

test("the esptool that the owner names is used", async () => {
  const hint = await esptoolOf("mine", "5.4.1");
  const found = await findEsptool(search({ hint }));
  expect(found).toMatchObject({ ok: true, esptool: { argv: [hint], version: "5.4.1" } });
});

test.each(["4.8.1", "5.3.9", "6.0.0"])(
  "esptool %s that the owner names is refused, and nothing else is tried",
  async (version) => {
    const hint = await esptoolOf("mine", version);
    const found = await findEsptool(search({ hint, pythonHint: await pythonWith(installs("5.4.0")) }));
    expect(found).toMatchObject({ ok: false, failure: { kind: "toolchain-missing", missing: "esptool~=5.4" } });
    expect(found).toMatchObject({ failure: { detail: expect.stringContaining(`it is esptool ${version}`) } });
  },
);

test("an esptool on PATH is used when its version fits", async () => {
  await mkdir(join(folder.path, "bin"));
  await esptoolOf("bin/esptool.py", "4.7.0");
  await esptoolOf("bin/esptool", "5.6.2");
  const path = `${join(folder.path, "bin")}:/usr/bin:/bin`;
  expect(await findEsptool(search({ path }))).toMatchObject({
    ok: true,
    esptool: { argv: ["esptool"], version: "5.6.2" },
  });
});

test("an environment is made once, and used from then on", async () => {
  const pythonHint = await pythonWith(installs("5.4.0"));
  const made = await Promise.all([1, 2, 3].map(() => findEsptool(search({ pythonHint }))));
  const again = await findEsptool(search({ pythonHint: "/nonexistent" }));
  const paths = [...made, again].map((found) => (found.ok ? found.esptool.argv[0] : JSON.stringify(found)));
  expect(new Set(paths).size).toBe(1);
  expect(paths[0]).toMatch(/cache\/esptool\/env-\w+\/bin\/esptool$/);
  const calls = (await readFile(join(folder.path, "pip-calls"), "utf8")).trim().split("\n");
  expect(calls).toEqual([expect.stringMatching(/ esptool~=5\.4$/)]);
});

test("an environment that is broken is made anew", async () => {
  const pythonHint = await pythonWith(installs("5.4.0"));
  const first = await findEsptool(search({ pythonHint }));
  const path = first.ok ? (first.esptool.argv[0] ?? "") : "";
  await rm(path);
  const second = await findEsptool(search({ pythonHint }));
  expect(second).toMatchObject({ ok: true });
  expect(second.ok && second.esptool.argv[0]).not.toBe(path);
});

test("a pip that fails is a missing toolchain with pip's last word, and leaves nothing behind", async () => {
  const pythonHint = await pythonWith("echo 'ERROR: no route to host' >&2; exit 1");
  const found = await findEsptool(search({ pythonHint }));
  expect(found).toMatchObject({ ok: false, failure: { kind: "toolchain-missing", missing: "esptool~=5.4" } });
  expect(found).toMatchObject({ failure: { detail: expect.stringMatching(/no route to host.*FLASHYARD_ESPTOOL/) } });
  expect(await readdir(join(folder.path, "cache/esptool"))).toEqual(["lock"]);
});

test("without a Python the failure says what to install", async () => {
  const found = await findEsptool(search({ pythonHint: join(folder.path, "absent") }));
  expect(found).toMatchObject({
    ok: false,
    failure: { kind: "toolchain-missing", missing: "Python >=3.10 for esptool" },
  });
  expect(found).toMatchObject({ failure: { detail: expect.stringContaining("apt install python3 python3-venv") } });
});

test("a search that is called off ends, and installs nothing", async () => {
  const pythonHint = await pythonWith("sleep 60");
  const cancel = new AbortController();
  const found = findEsptool(search({ pythonHint, signal: cancel.signal, onLine: () => cancel.abort() }));
  expect(await found).toEqual({ ok: false, aborted: true });
});
