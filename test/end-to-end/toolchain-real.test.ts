/** Real ESPHome, real pip, real g++: what the toolchain and the ESPHome driver promise. */
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { GroupLedger, isGroupAlive } from "#actor/process-group.ts";
import type { BuildResult } from "#compile-agent/build.ts";
import { buildWithEsphome, type EsphomeBuildRequest } from "#compile-agent/esphome-driver.ts";
import type { BuildProgress } from "#compile-agent/output.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import { Configuration } from "#protocol/ids.ts";
import { ArtifactManifest } from "#protocol/artifact.ts";
import { digestOf } from "#actor/digest.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import { checkCompiler } from "#toolchain/compiler.ts";
import { readConfiguration } from "#toolchain/configuration.ts";
import { EsphomeEnvironments, type EsphomeEnvironment } from "#toolchain/esphome-environment.ts";
import { inflate } from "#test/support/bundle-tar.ts";
import { bundleOf } from "#test/support/tar-bytes.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const version = "2026.10.0";
/** Shared between runs: an environment takes half a minute. */
const cacheFolder = process.env["FLASHYARD_CACHE"] ?? join(homedir(), ".cache", "flashyard");
const environments = new EsphomeEnvironments({ cacheFolder, clock: systemClock });

let home: TemporaryFolder;
let folder: string;
let env: EsphomeEnvironment;
let workspace: Workspace;

const porchName = Configuration.parse("porch");
const porch = `esphome:
  name: porch
  includes: [hello.h]
host:
  mac_address: "06:35:69:AB:F6:79"
api:
  port: 16053
  reboot_timeout: 0s
logger:
ota:
  - platform: esphome
    port: 18082
    password: !secret ota
sensor:
  - platform: template
    name: Answer
    lambda: |-
      return hello();
`;

beforeAll(async () => {
  home = await temporaryFolder();
  folder = join(home.path, "conf");
  workspace = new Workspace(join(home.path, "agent"));
  await mkdir(folder);
  await writeFile(join(folder, "porch.yaml"), porch);
  await writeFile(join(folder, "hello.h"), "inline float hello() { return 42; }\n");
  await writeFile(join(folder, "secrets.yaml"), "ota: hunter2\nunused: x\n");
  const made = await environments.ensure(version);
  if (!made.ok) throw new Error(JSON.stringify(made));
  env = made.env;
});
afterAll(() => home[Symbol.asyncDispose]());

async function bundleOfPorch() {
  const bundle = await makeBundle(env, join(folder, "porch.yaml"));
  if (!bundle.ok) throw new Error(JSON.stringify(bundle));
  return bundle;
}

const specOf = (bundle: Buffer) =>
  ({ driver: "esphome", version, bundle: digestOf(bundle), entry: "porch.yaml" }) as const;

async function buildBytes(bundle: Buffer, more: Partial<EsphomeBuildRequest> = {}): Promise<BuildResult> {
  const inflated = await inflate(bundle, home.path);
  if (!inflated.ok) return inflated;
  const { tar } = inflated;
  const spec = specOf(bundle);
  return buildWithEsphome({ spec, tar, configuration: porchName, workspace, environments, ...more });
}

async function buildPorch(more: Partial<EsphomeBuildRequest> = {}) {
  const result = await buildBytes((await bundleOfPorch()).bytes, more);
  if (!result.ok) throw new Error(JSON.stringify(result));
  return result;
}

/** Everything that runs inside a folder. */
async function processesIn(path: string): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const folders = await Promise.all(pids.map((pid) => readlink(`/proc/${pid}/cwd`).catch(() => "")));
  return folders.filter((cwd) => cwd.startsWith(path));
}

describe("a configuration", () => {
  test("gives the same bundle each time, with the secrets that it uses and no others", async () => {
    const first = await bundleOfPorch();
    const second = await bundleOfPorch();
    expect(second.digest).toBe(first.digest);
    expect(first).toMatchObject({
      entry: "porch.yaml",
      files: ["hello.h", "manifest.json", "porch.yaml", "secrets.yaml"],
    });
    expect((await readdir(folder)).toSorted()).toEqual(["hello.h", "porch.yaml", "secrets.yaml"]);
  });

  test("says where its device is, and none of its secrets on the way", async () => {
    const lines: string[] = [];
    const read = await readConfiguration(env, join(folder, "porch.yaml"), { onLine: (line) => lines.push(line) });
    expect(read).toEqual({
      ok: true,
      configuration: {
        name: "porch",
        esphomeName: "porch",
        platform: "host",
        addsMacSuffix: false,
        sleeps: false,
        target: {
          kind: "ota",
          host: "127.0.0.1",
          port: 18082,
          password: "hunter2",
          encrypted: false,
          api: { port: 16053 },
          name: "porch",
          mac: "06:35:69:AB:F6:79",
        },
      },
    });
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.join("\n")).not.toContain("hunter2");
  });

  test("that is missing, is no YAML, is invalid, or would lose a secret is told apart", async () => {
    const write = (name: string, text: string) => writeFile(join(folder, name), text);
    await write("broken.yaml", "esphome:\n  name: x\n host: [\n");
    await write("invalid.yaml", porch.replace("port: 18082", "prot: 18082"));
    await write(
      "flow.yaml",
      porch.replace(/ota:\n(.*\n){3}/, "ota: [{platform: esphome, port: 18082, password: !secret ota}]\n"),
    );
    for (const command of [makeBundle, readConfiguration]) {
      const tailOf = async (name: string) => {
        const result = await command(env, join(folder, name));
        if (result.ok || result.aborted || result.failure.kind !== "config-invalid")
          throw new Error(JSON.stringify(result));
        return `${result.failure.exitCode} ${result.failure.tail.join("\n")}`;
      };
      expect(await tailOf("absent.yaml")).toMatch(/^2 .*absent.yaml: there is no such file/);
      expect(await tailOf("broken.yaml")).toMatch(/^2 (.*\n)*.*in "broken.yaml", line 3/);
      expect(await tailOf("invalid.yaml")).toMatch(/^2 Failed config\n(.*\n)*.*\[prot\] is an invalid option/);
    }
    expect(await makeBundle(env, join(folder, "flow.yaml"))).toMatchObject({
      failure: { kind: "bundle-refused", reason: expect.stringContaining("flow.yaml, line ") as string },
    });
    for (const name of ["broken", "invalid", "flow"]) await rm(join(folder, `${name}.yaml`));
  });
});

describe("a build", () => {
  let cold: Awaited<ReturnType<typeof buildPorch>>;

  test("from nothing leaves a program, with what ESPHome says of it", async () => {
    const progress: BuildProgress[] = [];
    cold = await buildPorch({ onProgress: (said) => progress.push(said) });
    expect(ArtifactManifest.parse(cold.manifest)).toEqual(cold.manifest);
    expect(cold.manifest).toMatchObject({
      tool: { name: "esphome", version },
      platform: "host",
      images: [{ role: "ota", name: "program" }],
      esphome: { name: "porch", esphomeVersion: version },
    });
    expect(cold.manifest.esphome!.configHash).toMatch(/^0x[0-9a-f]{8}$/);
    const image = await readFile(cold.images[0]!.path);
    expect(image.subarray(1, 4).toString()).toBe("ELF");
    expect(digestOf(image)).toBe(cold.manifest.images[0]!.digest);
    expect(image.includes(cold.manifest.esphome!.buildTimeStr)).toBe(true);
    expect(new Set(progress.map(({ phase }) => phase))).toEqual(new Set(["environment", "compiling", "linking"]));
    expect(progress.at(-1)).toEqual({ phase: "linking", percent: 100 });
  });

  test("leaves no YAML in its tree, nor what ESPHome has resolved of it, and keeps the rest", async () => {
    const source = await workspace.withTree(
      { version, configuration: porchName },
      undefined,
      async (tree) => tree.source,
    );
    const left = (await readdir(source ?? "", { recursive: true })).filter((path) => !path.includes("/build/"));
    expect(left).toContain("hello.h");
    expect(left).toContain(".esphome/storage/porch.yaml.json");
    expect(left.filter((path) => /\.ya?ml$|validated/.test(path))).toEqual([]);
  });

  test("of the same bundle is warm and gives the same binary", async () => {
    const lines: string[] = [];
    const warm = await buildPorch({ onLine: (line) => lines.push(line) });
    expect(lines).toContain("ninja: no work to do.");
    expect(warm.manifest).toEqual(cold.manifest);
    expect(warm.folder).not.toBe(cold.folder);
    expect([cold.isWarm, warm.isWarm]).toEqual([false, true]);
  });

  test("keeps the program with its symbols when that is asked for, apart from the images", async () => {
    const spec = { ...specOf((await bundleOfPorch()).bytes), keepsDebug: true };
    const { manifest, images } = await buildPorch({ spec });
    expect(ArtifactManifest.parse(manifest)).toEqual(manifest);
    expect(manifest).toEqual({ ...cold.manifest, debug: [{ ...cold.manifest.images[0], role: "debug" }] });
    expect(images.map(({ digest }) => digest)).toEqual([manifest.debug![0]!.digest]);
    expect((await readFile(images[0]!.path)).includes(".symtab")).toBe(true);
  });

  test("of a changed header gives another binary with a build time of its own", async () => {
    await writeFile(join(folder, "hello.h"), "inline float hello() { return 43; }\n");
    const changed = await buildPorch();
    expect(changed.manifest.images[0]!.digest).not.toBe(cold.manifest.images[0]!.digest);
    expect(changed.manifest.esphome!.buildTimeStr).not.toBe(cold.manifest.esphome!.buildTimeStr);
    const image = await readFile(changed.images[0]!.path);
    expect(image.includes(changed.manifest.esphome!.buildTimeStr)).toBe(true);
    expect((await readdir(changed.folder)).length).toBe(1);
  });

  test("that fails shows the compiler's lines, leaves no result, and heals with the next bundle", async () => {
    const before = await workspace.leftResults();
    await writeFile(join(folder, "hello.h"), "inline float hello() { return fortytwo; }\n");
    const result = await buildBytes((await bundleOfPorch()).bytes);
    if (result.ok || result.aborted || result.failure.kind !== "compiler-exit") throw new Error(JSON.stringify(result));
    expect(result.failure.exitCode).toBe(1);
    expect(result.failure.tail.join("\n")).toMatch(/hello\.h:1:\d+: error: .fortytwo. was not declared/);
    expect(await workspace.leftResults()).toEqual(before);
    await writeFile(join(folder, "hello.h"), "inline float hello() { return 44; }\n");
    await buildPorch();
  });

  test("of a configuration that ESPHome refuses is config-invalid, of a bundle without it bundle-refused", async () => {
    const invalid = bundleOf([{ path: "porch.yaml", content: "esphome:\n  name: porch\nhost:\nnonsense: 1\n" }]);
    expect(await buildBytes(invalid)).toMatchObject({ failure: { kind: "config-invalid", exitCode: 2 } });
    const without = bundleOf([{ path: "other.yaml", content: "esphome:\n" }]);
    expect(await buildBytes(without)).toMatchObject({
      failure: { kind: "bundle-refused", reason: "it does not hold the configuration porch.yaml" },
    });
  });

  test("that is called off in the middle leaves no process, and the next one succeeds", async () => {
    // Another name is a cold build: long enough to be in the middle of it.
    const bundle = bundleOf([
      { path: "porch.yaml", content: "esphome:\n  name: cellar\nhost:\napi:\nlogger:\n" },
      { path: "manifest.json", content: "{}" },
    ]);
    const ledgerFolder = join(home.path, "groups");
    const abort = new AbortController();
    const inTheMiddle = Promise.withResolvers<void>();
    const building = buildBytes(bundle, {
      configuration: Configuration.parse("cellar"),
      signal: abort.signal,
      ledger: new GroupLedger(ledgerFolder),
      onLine: (line) => {
        if (line.startsWith("[2/")) inTheMiddle.resolve();
      },
    });
    await inTheMiddle.promise;
    const noted = await readdir(ledgerFolder);
    expect((await processesIn(home.path)).length).toBeGreaterThan(1);
    abort.abort();
    const result = await building;
    expect(result).toEqual({ ok: false, aborted: true });
    expect(noted).toHaveLength(1);
    expect(isGroupAlive(Number(noted[0]))).toBe(false);
    expect(await processesIn(home.path)).toEqual([]);
    expect(await readdir(ledgerFolder)).toEqual([]);
    await buildPorch();
  });

  test("for the host without a C++ compiler says so before ESPHome starts", async () => {
    const nowhere = join(home.path, "nowhere");
    await mkdir(nowhere);
    const bare = new EsphomeEnvironments({ cacheFolder, clock: systemClock, variables: { PATH: nowhere } });
    const result = await buildBytes((await bundleOfPorch()).bytes, { environments: bare });
    expect(result).toMatchObject({ failure: { kind: "toolchain-missing", missing: "g++ (or clang++)" } });
    expect(await checkCompiler()).toMatchObject({ ok: true, name: "g++" });
  });

  test("whose toolchain cannot be downloaded is for another machine", async () => {
    const mirror = "http://127.0.0.1:1/{VERSION}";
    const offline = new EsphomeEnvironments({
      cacheFolder,
      clock: systemClock,
      variables: {
        HOME: home.path,
        ESPHOME_ARDUINO8266_FRAMEWORK_MIRRORS: mirror,
        ESPHOME_ARDUINO8266_TOOLCHAIN_MIRRORS: mirror,
      },
    });
    const garden = bundleOf([
      { path: "porch.yaml", content: "esphome:\n  name: garden\nesp8266:\n  board: d1_mini\nlogger:\n" },
    ]);
    const result = await buildBytes(garden, { environments: offline, configuration: Configuration.parse("garden") });
    expect(result).toMatchObject({
      failure: { kind: "toolchain-missing", missing: "a download that the build needs" },
    });
  });
});

describe("an environment", () => {
  test("of a version that does not exist is version-unknown, with the nearest that do", async () => {
    const result = await environments.ensure("2026.10.99");
    expect(result).toMatchObject({ failure: { kind: "version-unknown", tool: "ESPHome", version: "2026.10.99" } });
    expect(JSON.stringify(result)).toContain("the nearest are 2026.10.0");
    expect(await environments.ready()).toContain(version);
    expect(await environments.ready()).not.toContain("2026.10.99");
  });

  test("answers with its version by the path that it was given", async () => {
    const { stdout } = await promisify(execFile)(env.esphome, ["version"], { env: env.variables });
    expect(stdout.trim()).toBe(`Version: ${version}`);
    expect((await stat(env.python)).isFile()).toBe(true);
  });
});
