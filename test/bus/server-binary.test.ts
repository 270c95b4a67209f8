import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, readdir, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ResolveOptions, resolveServerBinary } from "#bus/server-binary.ts";
import { releaseSource } from "#bus/server-download.ts";
import { cacheSource, missed, pathSource, type ServerSource } from "#bus/server-source.ts";
import { serverVersionMin } from "#bus/server-version.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { bundleOf } from "#test/support/tar-bytes.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let home: TemporaryFolder;
let cacheFolder: string;
/** The folder that stands in PATH. */
let bin: string;

beforeEach(async () => {
  home = await temporaryFolder();
  cacheFolder = join(home.path, "cache");
  bin = join(home.path, "bin");
});
afterEach(() => home[Symbol.asyncDispose]());

const naming = (version: string) => `#!/bin/sh\necho "nats-server: v${version}"\n`;

/** Puts a program there that behaves as `script` says. */
async function program(path: string, script: string, mode = 0o755): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, script);
  await chmod(path, mode);
  return path;
}

const inCache = (version: string, script = naming(version)) =>
  program(join(cacheFolder, `nats-server-${version}`, "nats-server"), script);

function resolve(options: Partial<ResolveOptions> = {}) {
  return resolveServerBinary({ cacheFolder, env: { PATH: bin }, sources: [cacheSource, pathSource], ...options });
}

async function refusal(options: Partial<ResolveOptions>): Promise<UsageError> {
  const error: unknown = await resolve(options).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UsageError);
  return error as UsageError;
}

test("the newest version in the cache that works is taken before PATH", async () => {
  await inCache("2.14.4");
  const newest = await inCache("2.15.10");
  await inCache("2.15.9");
  await inCache("2.16.0", "#!/bin/sh\nexit 1\n");
  await program(join(bin, "nats-server"), naming("3.0.0"));
  expect(await resolve()).toEqual({ path: newest, version: "2.15.10", source: "the cache" });
});

test("without a cache PATH is searched, past what is too old, no program or only a folder", async () => {
  const folders = ["old", "plain", "folder", "good"].map((name) => join(home.path, name));
  await program(join(folders[0]!, "nats-server"), naming("2.9.25"));
  await program(join(folders[1]!, "nats-server"), naming("2.15.2"), 0o644);
  await mkdir(join(folders[2]!, "nats-server"), { recursive: true });
  const path = await program(join(folders[3]!, "nats-server"), naming("2.15.2"));
  expect(await resolve({ env: { PATH: folders.join(":") } })).toEqual({ path, version: "2.15.2", source: "PATH" });
});

test("a path that the user names is used, and nothing else is tried when it is no good", async () => {
  await inCache("2.15.2");
  const good = await program(join(home.path, "good"), naming("2.15.0"));
  expect(await resolve({ explicitPath: good })).toMatchObject({ path: good, version: "2.15.0" });

  const old = await refusal({ explicitPath: await program(join(home.path, "old"), naming("2.10.1")) });
  expect(old).toMatchObject({ code: "nats-server-too-old", facts: { found: "2.10.1", needed: serverVersionMin } });
  expect(await refusal({ explicitPath: join(home.path, "nowhere") })).toMatchObject({ code: "nats-server-missing" });
  expect(await refusal({ explicitPath: home.path })).toMatchObject({ code: "nats-server-missing" });
  const unusable = ["#!/bin/sh\necho broken >&2; exit 3\n", "#!/bin/sh\necho hello\n", "no program\0"];
  for (const [index, script] of unusable.entries()) {
    const explicitPath = await program(join(home.path, `unusable-${index}`), script);
    const error = await refusal({ explicitPath });
    expect(error.code).toBe("nats-server-unusable");
    expect(error.message).toContain(explicitPath);
  }
  const plain = await program(join(home.path, "plain"), naming("2.15.2"), 0o644);
  expect(await refusal({ explicitPath: plain })).toMatchObject({ code: "nats-server-unusable" });
});

test("when no source has one, the message names each with its reason and what the user can do", async () => {
  await inCache("2.9.0");
  await program(join(bin, "nats-server"), "#!/bin/sh\necho wrong libc >&2; exit 127\n");
  const closed: ServerSource = { name: "a closed shop", msMax: 1_000, seek: async () => missed("it is Sunday") };
  const broken: ServerSource = {
    name: "a broken one",
    msMax: 1_000,
    seek: async () => {
      throw new Error("its door is jammed");
    },
  };
  const error = await refusal({ sources: [cacheSource, pathSource, closed, broken] });
  expect(error.code).toBe("nats-server-unobtainable");
  expect(error.facts["reasons"]).toHaveLength(4);
  for (const part of [
    "the cache: ",
    `is 2.9.0, older than ${serverVersionMin}`,
    "PATH: ",
    "wrong libc",
    "a closed shop: it is Sunday",
    "a broken one: its door is jammed",
    "FLASHYARD_NATS_SERVER",
    "FLASHYARD_NATS_URL",
  ]) {
    expect(error.message).toContain(part);
  }
});

test("a source that takes too long is given up, and the next one is asked", async () => {
  const slow: ServerSource = {
    name: "a slow one",
    msMax: 20,
    seek: ({ signal }) =>
      new Promise((resolve) => signal.addEventListener("abort", () => resolve(missed("interrupted")))),
  };
  await program(join(bin, "nats-server"), naming("2.15.2"));
  const said: string[] = [];
  const found = await resolve({ sources: [slow, pathSource], onProgress: (line) => said.push(line) });
  expect(found.source).toBe("PATH");
  expect(said[0]).toBe("nats-server: not from a slow one: not done after 0.02 s");
});

test("an interrupted search says so", async () => {
  const error = await resolve({ signal: AbortSignal.abort() }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UnavailableError);
  expect(error).toMatchObject({ code: "interrupted" });
});

test("a cache that cannot be written is told by its path", async () => {
  await writeFile(join(home.path, "file"), "");
  const folder = join(home.path, "file", "cache");
  const error = await resolve({ cacheFolder: folder }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "cache-unwritable", facts: { cacheFolder: folder } });
});

test("staging folders that a killed process left are swept after a day, younger ones stay", async () => {
  await inCache("2.15.2");
  const longAgo = new Date(Date.now() - 25 * 3_600_000);
  for (const name of [".staging-old", ".staging-young"]) await mkdir(join(cacheFolder, name));
  await utimes(join(cacheFolder, ".staging-old"), longAgo, longAgo);
  await resolve();
  expect((await readdir(cacheFolder)).sort()).toEqual([".staging-young", "nats-server-2.15.2"]);
});

/** A release page on loopback that serves one archive. */
async function releasePage(archive: Buffer) {
  const server = createServer((request, response) => {
    response.statusCode = request.url === "/v2.15.0/nats-server-v2.15.0-linux-amd64.tar.gz" ? 200 : 404;
    response.end(response.statusCode === 200 ? archive : "");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: async () => void server.close() };
}

test("a release archive is kept in the cache once its checksum fits and its server has run", async () => {
  const archive = bundleOf([{ path: "nats-server-v2.15.0-linux-amd64/nats-server", content: naming("2.15.0") }]);
  await using page = await releasePage(archive);
  const digest = createHash("sha256").update(archive).digest("hex");
  const from = (options: Partial<Parameters<typeof releaseSource>[0]>) =>
    releaseSource({
      releasesUrl: page.url,
      version: "2.15.0",
      digests: { "linux-x64": digest },
      platform: "linux-x64",
      ...options,
    });
  const wrong = await refusal({ sources: [from({ digests: { "linux-x64": "0".repeat(64) } })] });
  expect(wrong.message).toContain(`has the checksum ${digest}, not the pinned 000`);
  expect((await refusal({ sources: [from({ version: "2.15.9" })] })).message).toContain("answered 404");
  expect((await refusal({ sources: [from({ platform: "plan9-x64" })] })).message).toContain(
    "no pinned checksum for plan9-x64",
  );
  expect(await readdir(cacheFolder)).toEqual([]);

  const found = await resolve({ sources: [from({})] });
  expect(found).toMatchObject({ version: "2.15.0", path: join(cacheFolder, "nats-server-2.15.0", "nats-server") });
  expect(await resolve({ sources: [cacheSource] })).toEqual({ ...found, source: "the cache" });
  expect(await readdir(cacheFolder)).toEqual(["nats-server-2.15.0"]);
});
