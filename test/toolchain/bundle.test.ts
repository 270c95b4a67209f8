import { mkdir, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { plainEnvironment } from "#actor/subprocess.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import type { EsphomeEnvironment } from "#toolchain/esphome-environment.ts";
import { bundleOf, tarOf, type TarEntry } from "#test/support/tar-bytes.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
let yaml: string;
let env: EsphomeEnvironment;

beforeEach(async () => {
  home = await temporaryFolder();
  await mkdir(join(home.path, "conf"));
  yaml = join(home.path, "conf", "porch.yaml");
  await writeFile(yaml, "esphome:\n  name: porch\n");
  env = { version: "2026.10.0", esphome: join(home.path, "esphome"), python: "", variables: plainEnvironment() };
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await home[Symbol.asyncDispose]();
});

/** An `esphome` whose `bundle --output FILE` is this piece of shell. */
const setEsphome = (script: string) => writeFile(env.esphome, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
async function setBundle(bytes: Buffer): Promise<void> {
  await writeFile(join(home.path, "made.tar.gz"), bytes);
  await setEsphome(`cp ${join(home.path, "made.tar.gz")} "$3"`);
}
const conf = (name: string, content: string) => writeFile(join(home.path, "conf", name), content);

test("the same files give the same bytes, whenever and however they were compressed", async () => {
  const tar = tarOf([{ path: "porch.yaml", content: "esphome:\n" }]);
  const stamped = gzipSync(tar, { level: 1 });
  stamped.writeUInt32LE(1_800_000_000, 4);
  await setBundle(stamped);
  const first = await makeBundle(env, yaml);
  await setBundle(gzipSync(tar));
  const second = await makeBundle(env, yaml);
  if (!first.ok || !second.ok) throw new Error(JSON.stringify([first, second]));
  expect(first.digest).toBe(second.digest);
  expect(first).toMatchObject({ entry: "porch.yaml", files: ["porch.yaml"] });
  expect(gunzipSync(first.bytes)).toEqual(tar);
});

test("nothing of a bundle is left in the folder for temporary files", async () => {
  // A folder of its own: other processes make bundles in the machine's one at the same time.
  const temporary = join(home.path, "temporary");
  await mkdir(temporary);
  vi.stubEnv("TMPDIR", temporary);
  expect(tmpdir()).toBe(temporary);
  await setBundle(bundleOf([{ path: "porch.yaml", content: "esphome:\n" }]));
  expect((await makeBundle(env, yaml)).ok).toBe(true);
  expect(await readdir(temporary)).toEqual([]);
});

test("a missing file, a folder and a secrets file are said to be no configuration", async () => {
  await setEsphome("exit 0");
  const tailOf = async (file: string) => {
    const result = await makeBundle(env, file);
    return result.ok || result.aborted || result.failure.kind !== "config-invalid" ? [] : result.failure.tail;
  };
  const absent = join(home.path, "nowhere", "porch.yaml");
  expect(await tailOf(absent)).toEqual([`${absent}: there is no such file`]);
  expect(await tailOf(home.path)).toEqual([`${home.path} is not a file`]);
  await conf("secrets.yaml", "a: b");
  expect(await tailOf(join(home.path, "conf", "secrets.yaml"))).toEqual([
    "secrets.yaml is no configuration: ESPHome made no bundle of it",
  ]);
});

test("a bundle beyond the limits is not made", async () => {
  const limits = { bytesMax: 100_000, unpackedBytesMax: 1_000_000, filesMax: 2 };
  const reasonOf = async (entries: TarEntry[]) => {
    await setBundle(bundleOf(entries));
    const result = await makeBundle(env, yaml, { limits });
    return result.ok || result.aborted || result.failure.kind !== "bundle-refused" ? "" : result.failure.reason;
  };
  expect(await reasonOf([{ path: "a", content: Buffer.alloc(5_000_000) }])).toMatch(/larger than 1000000/);
  expect(await reasonOf(["a", "b", "c"].map((path) => ({ path, content: path })))).toMatch(/more than 2 files/);
});

test("a secret that ESPHome left out is noticed, with its line and what to write instead", async () => {
  const text = "esphome:\n  name: porch\nwifi:\n  networks: [{ssid: x, password: !secret wifi}]\n";
  await conf("secrets.yaml", "wifi: hunter2\nother: x\n");
  for (const shipped of [[], [{ path: "secrets.yaml", content: "other: x\n" }]]) {
    await setBundle(bundleOf([...shipped, { path: "porch.yaml", content: text }]));
    expect(await makeBundle(env, yaml)).toEqual({
      ok: false,
      aborted: false,
      failure: {
        kind: "bundle-refused",
        reason:
          'ESPHome left out the secret wifi, because it does not see "!secret" inside [ ] or { } (porch.yaml, line 4): ' +
          'write it in block style, "!secret wifi" last on a line of its own',
      },
    });
  }
  await setBundle(
    bundleOf([
      { path: "secrets.yaml", content: "wifi: hunter2\n" },
      { path: "porch.yaml", content: text },
    ]),
  );
  expect(await makeBundle(env, yaml)).toMatchObject({ ok: true });
});

test("secrets of files in folders are looked for beside them, and one that exists nowhere is ESPHome's business", async () => {
  await mkdir(join(home.path, "conf", "common"));
  await writeFile(join(home.path, "conf", "common", "secrets.yaml"), "near: x\n");
  const entry = { path: "porch.yaml", content: "a: !secret nowhere\nb: !lambda 'return 1;'\n" };
  await setBundle(bundleOf([entry]));
  expect(await makeBundle(env, yaml)).toMatchObject({ ok: true });
  await setBundle(bundleOf([entry, { path: "common/base.yaml", content: "- [!secret near]\n" }]));
  expect(await makeBundle(env, yaml)).toMatchObject({
    failure: { reason: expect.stringContaining("common/base.yaml, line 1") as string },
  });
});

test("ESPHome's exit code 2 is an invalid configuration with its own lines; a release without bundles says so", async () => {
  await setEsphome(
    `echo "INFO Reading configuration"; echo "Failed config"; echo; echo "ota: [source porch.yaml:3]"; echo "  password: geheim"; exit 2`,
  );
  expect(await makeBundle(env, yaml)).toMatchObject({
    failure: {
      kind: "config-invalid",
      exitCode: 2,
      tail: ["Failed config", "ota: [source porch.yaml:3]", "  password: (hidden)"],
    },
  });
  await setEsphome(
    `echo "esphome: error: argument command: invalid choice: 'bundle' (choose from compile)" >&2; exit 2`,
  );
  expect(await makeBundle(env, yaml)).toMatchObject({
    failure: { kind: "bundle-refused", reason: "ESPHome 2026.10.0 cannot make bundles; use a newer release" },
  });
});

test("calling it off is no failure", async () => {
  await setEsphome("echo started; sleep 600");
  const abort = new AbortController();
  expect(await makeBundle(env, yaml, { signal: abort.signal, onLine: () => abort.abort() })).toEqual({
    ok: false,
    aborted: true,
  });
});
