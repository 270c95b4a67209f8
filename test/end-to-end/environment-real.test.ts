/** Real virtual environments and real pip, with a wheel that takes a second to install; no network. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { findPythons, type PythonsFound } from "#toolchain/python.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";
import { writeTinyWheel } from "#test/support/tiny-wheel.ts";

let home: TemporaryFolder;
let pythons: PythonsFound;
let wheels: string;

beforeAll(async () => {
  home = await temporaryFolder();
  pythons = await findPythons();
  wheels = join(home.path, "wheels");
  await mkdir(wheels);
});
afterAll(() => home[Symbol.asyncDispose]());

function environmentsIn(cache: string, found = wheels): EsphomeEnvironments {
  const variables = { PIP_NO_INDEX: "1", PIP_FIND_LINKS: found };
  return new EsphomeEnvironments({ cacheFolder: join(home.path, cache), clock: systemClock, variables });
}

function wheel(version: string, requiresPython: string): string {
  writeTinyWheel(pythons.pythons[0]!.path, { folder: wheels, version, requiresPython });
  return version;
}

test("a release that refuses the first Python is made with the next that it takes", async () => {
  const [best] = pythons.pythons;
  const other = pythons.pythons.find(({ version }) => version.startsWith("3.12") && version !== best!.version);
  if (other === undefined) {
    throw new Error(`this test needs Python 3.12 and one that is preferred to it; here: ${pythons.tried.join(", ")}`);
  }
  const version = wheel("2027.1.0", "<3.13,>=3.12");
  const lines: string[] = [];
  const result = await environmentsIn("refusing").ensure(version, { onLine: (line) => lines.push(line) });
  expect(result).toMatchObject({ ok: true });
  expect(lines.filter((line) => line.startsWith("making"))).toEqual([
    `making the environment of ESPHome ${version} with Python ${best!.version}`,
    `making the environment of ESPHome ${version} with Python ${other.version}`,
  ]);
});

test("a release that refuses every Python says which one it wants", async () => {
  const version = wheel("2027.2.0", ">=3.99");
  expect(await environmentsIn("future").ensure(version)).toMatchObject({
    failure: { kind: "toolchain-missing", missing: "Python >=3.99 for ESPHome 2027.2.0" },
  });
});

test("a release that the index does not have is version-unknown, an index that does not answer is toolchain-missing", async () => {
  wheel("2027.3.0", ">=3.11");
  const unknown = await environmentsIn("unknown").ensure("2027.3.9");
  expect(unknown).toMatchObject({ failure: { kind: "version-unknown", version: "2027.3.9" } });
  expect(JSON.stringify(unknown)).toContain("the nearest are 2027.3.0");
  const empty = join(home.path, "empty");
  await mkdir(empty);
  expect(await environmentsIn("unknown", empty).ensure("2027.3.0")).toMatchObject({
    failure: { kind: "toolchain-missing" },
  });
});

test("a maker that is killed with -9 leaves an environment that the next one replaces", async () => {
  const version = wheel("2027.4.0", ">=3.11");
  const cache = join(home.path, "killed");
  const maker = spawn(
    process.execPath,
    [join(import.meta.dirname, "../fixtures/environment-maker.ts"), cache, version, wheels],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  for await (const line of createInterface({ input: maker.stdout })) if (line.startsWith("Processing")) break;
  maker.kill("SIGKILL");
  await once(maker, "exit");
  const environments = environmentsIn("killed");
  expect(await environments.ready()).toEqual([]);
  const folders = async () =>
    (await readdir(join(cache, "esphome", version))).filter((name) => name.startsWith("env-"));
  const [half] = await folders();
  expect(half).toBeDefined();
  expect(await environments.ensure(version)).toMatchObject({ ok: true });
  expect(await environments.ready()).toEqual([version]);
  expect(await folders()).not.toContain(half);
});

test("two processes that want the same environment make it once", async () => {
  const version = wheel("2027.5.0", ">=3.11");
  const start = () => {
    const argv = [
      join(import.meta.dirname, "../fixtures/environment-maker.ts"),
      join(home.path, "shared"),
      version,
      wheels,
    ];
    return spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
  };
  const outputs = await Promise.all(
    [start(), start()].map(async (child) =>
      (await Array.fromAsync(createInterface({ input: child.stdout }))).join("\n"),
    ),
  );
  expect(outputs.every((output) => output.endsWith("true"))).toBe(true);
  expect(outputs.filter((output) => output.includes("making the environment"))).toHaveLength(1);
  expect(outputs.filter((output) => output.includes("waiting for process"))).toHaveLength(1);
});
