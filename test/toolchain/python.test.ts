import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { choosePython, findPythons, requiredPython, satisfies } from "#toolchain/python.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fixture = join(import.meta.dirname, "../fixtures/fake-python.sh");
let home: TemporaryFolder;

beforeEach(async () => {
  home = await temporaryFolder();
});
afterEach(() => home[Symbol.asyncDispose]());

/** A Python of its own folder, which may be put on PATH. */
async function fakePython(folder: string, name: string, version: string, files: Record<string, string> = {}) {
  const bin = join(home.path, folder);
  await mkdir(bin, { recursive: true });
  await copyFile(fixture, join(bin, name));
  await chmod(join(bin, name), 0o755);
  for (const [file, content] of Object.entries({ "python-version": version, ...files }))
    await writeFile(join(bin, file), content);
  return bin;
}

const search = (folders: readonly string[], hint?: string) =>
  findPythons({ path: [...folders, "/usr/bin", "/bin"].join(":"), home: home.path, hint });

test("Pythons are found on PATH, under pyenv and under uv, and the best for the release is chosen", async () => {
  const folders = [await fakePython("a", "python3.12", "3.12.4"), await fakePython("b", "python3.14", "3.14.0")];
  await fakePython(".pyenv/versions/3.13.1/bin", "python3", "3.13.1");
  await fakePython(".local/share/uv/python/cpython-3.11/bin", "python3", "3.11.9");
  const found = await search(folders);
  const versions = found.pythons.map(({ version }) => version);
  expect(versions.slice(0, 3)).toEqual(["3.13.1", "3.12.4", "3.14.0"]);
  expect(choosePython(found, ">=3.12")?.version).toBe("3.13.1");
  expect(choosePython(found, "<3.13,>=3.12.0")?.version).toBe("3.12.4");
  expect(choosePython(found, "==3.11.9")?.path).toBe(
    join(home.path, ".local/share/uv/python/cpython-3.11/bin/python3"),
  );
  expect(choosePython(found, ">=3.15")).toBeUndefined();
});

test("a hint is the only candidate, and what is wrong with it is said", async () => {
  const bin = await fakePython("a", "python3.13", "3.13.0");
  const hint = join(await fakePython("b", "my-python", "3.12.0"), "my-python");
  expect(await search([bin], hint)).toEqual({
    pythons: [{ path: hint, version: "3.12.0" }],
    tried: [`${hint} is 3.12.0`],
  });
  const absent = join(home.path, "absent");
  expect(await search([bin], absent)).toEqual({ pythons: [], tried: [`${absent} does not start`] });
});

test("a Python without venv, a broken one and a shim that leads nowhere are passed over", async () => {
  const noVenv = await fakePython("a", "python3.13", "3.13.0", { "has-venv": "False" });
  const shim = join(home.path, "shims");
  await mkdir(shim);
  await writeFile(join(shim, "python3.12"), "#!/bin/sh\necho 'command not found' >&2; exit 127\n", { mode: 0o755 });
  const broken = await fakePython(".pyenv/versions/3.14.0/bin", "python3", "nonsense");
  const found = await search([noVenv, shim]);
  expect(found.pythons.map(({ version }) => version)).not.toContain("3.13.0");
  expect(found.tried).toContain(`${noVenv}/python3.13 is 3.13.0 without venv (Debian: apt install python3-venv)`);
  expect(found.tried).toContain(`${broken}/python3 is no working Python`);
  expect(found.tried.join()).not.toContain(shim);
});

test("the same interpreter under several names counts once", async () => {
  const bin = await fakePython("a", "python3.13", "3.13.0");
  const found = await search([bin, bin]);
  expect(found.pythons.filter(({ version }) => version === "3.13.0")).toHaveLength(1);
});

test("the table of required Pythons changes with ESPHome 2026.7", () => {
  expect(["2025.12.1", "2026.6.5", "2026.7.0", "2026.10.0", "2027.1.0"].map(requiredPython)).toEqual([
    ">=3.11",
    ">=3.11",
    ">=3.12",
    ">=3.12",
    ">=3.12",
  ]);
});

test("version conditions are read as pip reads them", () => {
  expect(satisfies("3.12.1", "<3.15,>=3.12.0")).toBe(true);
  expect(satisfies("3.12", ">=3.12.0")).toBe(true);
  expect(satisfies("3.15.0", "<3.15,>=3.12.0")).toBe(false);
  expect(satisfies("3.9.18", ">=3.11")).toBe(false);
  expect(satisfies("3.13.0", "!=3.13.0")).toBe(false);
});
