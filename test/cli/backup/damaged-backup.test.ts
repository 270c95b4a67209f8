/** Archives that are no whole backup: each is refused in a sentence, and nothing is written anywhere. */
import { createHash } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Connection } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { manifestName } from "#cli/backup/contents.ts";
import { streams } from "#protocol/names.ts";
import { chainNumber, flashed, installRequest } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";
import { type QuietEnd, runQuietly } from "#test/support/quiet-cli.ts";
import { tarOf } from "#test/support/tar-bytes.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";
import { TestFarm } from "#test/support/test-farm.ts";

let folder: TemporaryFolder;
/** Empty, and to stay so. */
let server: TestServer;
let connection: Connection;
let packed: Buffer;
let unpacked: Buffer;

beforeAll(async () => {
  folder = await temporaryFolder();
  server = await testServer();
  connection = await server.connect();
  const path = join(folder.path, "farm.tar.zst");
  await using source = await testServer();
  const ports = coordinatorPorts(await source.connect());
  await ports.prepare();
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  farm.submit(installRequest(1));
  farm.bringToUpload(1);
  farm.report(1, "upload", flashed);
  await ports.history.putAll(new Map([[chainNumber(1), farm.chain(1)]]));
  expect(await run(source.url, "backup", path)).toMatchObject({ code: 0 });
  packed = await readFile(path);
  unpacked = zstdDecompressSync(packed);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

function run(url: string, ...argv: readonly string[]): Promise<QuietEnd> {
  const { path } = folder;
  const environment = { FLASHYARD_HOME: path };
  const cacheFolder = join(homedir(), ".cache", "flashyard");
  return runQuietly({ servers: url, credentials: join(path, "nobody.json"), environment, cacheFolder }, argv);
}

async function expectRefused(name: string, bytes: Uint8Array, reason: RegExp): Promise<void> {
  const path = join(folder.path, `${name}.tar.zst`);
  await writeFile(path, bytes);
  for (const command of [
    ["restore", path],
    ["backup", "--check", path],
  ]) {
    const { code, err } = await run(server.url, ...command);
    expect(err).toMatch(reason);
    expect(err).toMatch(/is no whole backup/);
    expect(code).toBe(2);
  }
  const manager = await jetstreamManager(connection);
  expect(await manager.streams.list().next()).toEqual([]);
}

/** A backup of these files, with a manifest that fits them. */
function forged(files: readonly (readonly [string, string])[], more: object = {}): Buffer {
  const listed = files.map(([path, content]) => ({
    path,
    bytes: Buffer.byteLength(content),
    sha256: createHash("sha256").update(content).digest("hex"),
    ...(path.startsWith("streams/") ? { messages: content.split("\n").length - 1 } : {}),
  }));
  const manifest = { kind: "flashyard-backup", v: 1, version: "0.1.0", at: 0, files: listed, ...more };
  const entries = [[manifestName, JSON.stringify(manifest)] as const, ...files];
  return zstdCompressSync(tarOf(entries.map(([path, content]) => ({ path, content }))));
}

test("cut off anywhere", async () => {
  for (const part of [0.1, 0.5, 0.9]) {
    await expectRefused("cut", packed.subarray(0, Math.floor(packed.length * part)), /unexpected end|no whole backup/);
  }
  const tarCut = zstdCompressSync(unpacked.subarray(0, Math.floor(unpacked.length / 1_024) * 512));
  await expectRefused("cut-inside", tarCut, /missing|no sound tar|has been changed/);
});

test("with a changed byte, packed or unpacked", async () => {
  const flipped = Buffer.from(packed);
  flipped[Math.floor(flipped.length / 2)]! ^= 0xff;
  await expectRefused("flipped", flipped, /./);
  const changed = Buffer.from(unpacked);
  const at = changed.lastIndexOf("device-1.local");
  expect(at).toBeGreaterThan(0);
  changed[at + 2]! ^= 1;
  await expectRefused("changed", zstdCompressSync(changed), /has been changed/);
});

test("no archive, an empty one, or that of another program", async () => {
  const missing = await run(server.url, "restore", join(folder.path, "missing"));
  expect(missing).toMatchObject({ code: 2, err: /cannot be read.*no such file/ });
  await expectRefused("text", Buffer.from("a shopping list"), /./);
  await expectRefused("empty", new Uint8Array(), /./);
  await expectRefused(
    "foreign",
    zstdCompressSync(tarOf([{ path: "etc/passwd", content: "root" }])),
    /begins with no manifest/,
  );
  await expectRefused("newer", forged([], { v: 2 }), /another program, or of a newer flashyard/);
});

test("with paths that lead out of it, links, or files that it does not list", async () => {
  const manifest = { kind: "flashyard-backup", v: 1, version: "0.1.0", at: 0, files: [] };
  const head = { path: manifestName, content: JSON.stringify(manifest) };
  const outside = zstdCompressSync(tarOf([head, { path: "../outside", content: "x" }]));
  await expectRefused("outside", outside, /leads out/);
  const absolute = zstdCompressSync(tarOf([head, { path: "/etc/outside", content: "x" }]));
  await expectRefused("absolute", absolute, /absolute path/);
  const link = tarOf([head, { path: "identity/keys.json", type: "SymbolicLink", linkpath: "/etc/passwd" }]);
  await expectRefused("link", zstdCompressSync(link), /SymbolicLink/);
  await expectRefused(
    "unlisted",
    zstdCompressSync(tarOf([head, { path: "more", content: "x" }])),
    /not what its manifest says/,
  );
  await expectRefused("traversal", forged([["identity/../../outside", "x"]]), /does not know/);
  expect(await stat(join(dirname(folder.path), "outside")).catch(() => undefined)).toBeUndefined();
});

test("with messages for other subjects than its stream's", async () => {
  const line = `${JSON.stringify({ subject: "fy.upload.pi", text: "{}" })}\n`;
  await expectRefused("elsewhere", forged([["streams/KV_fy_history.jsonl", line]]), /none of its stream/);
  await expectRefused("lane", forged([["streams/FY_LANES.jsonl", line]]), /does not know/);
  await expectRefused("nonsense", forged([[`streams/${streams.audit}.jsonl`, "nonsense\n"]]), /none of its stream/);
});
