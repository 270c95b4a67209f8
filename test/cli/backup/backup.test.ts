/** Backing a farm up and restoring it, against real servers and the real coordinator. */
import { randomBytes } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { z } from "zod";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import { silentLog } from "#actor/log.ts";
import { readAudit } from "#bus/audit-log.ts";
import { Bucket } from "#bus/bucket.ts";
import { ChainStore } from "#bus/chain-store.ts";
import type { Connection } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { identityFolder } from "#bus/identity/identity-folder.ts";
import { signIn } from "#bus/identity/sign-in.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import { CoordinatorLease } from "#bus/coordinator-lease.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { keptStreams } from "#cli/backup/contents.ts";
import type { AuditEntry } from "#protocol/audit.ts";
import { BootId } from "#protocol/ids.ts";
import { buckets, objectStores, streams } from "#protocol/names.ts";
import { built, chainNumber, flashed, installRequest, buildRequest } from "#test/support/farm-builders.ts";
import { serverBinary, testServer } from "#test/support/nats-server.ts";
import { ServedFarm } from "#test/support/served-farm.ts";
import { type QuietEnd, runQuietly } from "#test/support/quiet-cli.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

let folder: TemporaryFolder;
let farm: ServedFarm;
/** Of a farm with chains that have ended and others under way. */
let file: string;
const object = Buffer.from("an image");

/** Without a URL: whatever this machine has. */
function run(url: string | undefined, ...argv: readonly string[]): Promise<QuietEnd> {
  const { path } = folder;
  const environment = { FLASHYARD_HOME: path };
  const cacheFolder = join(homedir(), ".cache", "flashyard");
  return runQuietly({ servers: url, credentials: join(path, "nobody.json"), environment, cacheFolder }, argv);
}

beforeAll(async () => {
  folder = await temporaryFolder();
  farm = await ServedFarm.start();
  const [builder, flasher] = [await farm.agent("compile", "builder"), await farm.agent("upload", "flasher")];
  const build = async () => {
    const job = await builder.next();
    await job.claim();
    await job.report(built());
  };
  const upload = async () => {
    const job = await flasher.next();
    await job.claim();
    return job;
  };
  await farm.submit(installRequest(1));
  await build();
  await (await upload()).report(flashed);
  await farm.untilArchived();
  await farm.submit(installRequest(2));
  await build();
  await (await upload()).claimFlash();
  await farm.submit(installRequest(3));
  await (await builder.next()).claim();
  await farm.submit(buildRequest(4));
  await new ObjectStore(farm.user, objectStores.artifacts).put(digestOf(object), object);
  file = join(folder.path, "farm.tar.zst");
  expect(await run(farm.server.url, "backup", file)).toMatchObject({ code: 0, err: "" });
});
afterAll(async () => {
  await farm[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

async function entriesOf(connection: Connection): Promise<readonly AuditEntry[]> {
  const entries: AuditEntry[] = [];
  for await (const entry of readAudit(connection, {})) entries.push(entry);
  return entries;
}

async function messagesIn(connection: Connection): Promise<number> {
  const manager = await jetstreamManager(connection);
  const infos = await Promise.all(
    keptStreams.map(({ stream }) =>
      manager.streams.info(stream).then(
        ({ state }) => state.messages,
        () => 0,
      ),
    ),
  );
  return infos.reduce((sum, messages) => sum + messages, 0);
}

describe("a backup", () => {
  test("is whole, for its owner only, and leaves nothing beside it", async () => {
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await readdir(folder.path)).filter((name) => name.startsWith("farm.tar.zst"))).toEqual(["farm.tar.zst"]);
    const { code, out } = await run(undefined, "backup", "--check", file);
    expect(code).toBe(0);
    expect(out).toMatch(/whole, made 20.* by flashyard/);
    expect(out).toMatch(/KV_fy_chains +3 messages/);
    expect(out).toMatch(/KV_fy_history +1 message\n/);
    expect(out).not.toMatch(/OBJ_|FY_LOGS/);
    expect(out).toMatch(/no keys/);
  });

  test("does not replace a file, and one that cannot be written leaves nothing", async () => {
    expect(await run(farm.server.url, "backup", file)).toMatchObject({ code: 2, err: /is there already/ });
    const nowhere = join(folder.path, "no-folder", "farm.tar.zst");
    expect(await run(farm.server.url, "backup", nowhere)).toMatchObject({ code: 2, err: /cannot be written/ });
  });
});

describe("a restore", () => {
  test("brings back history, devices and audit, ends what was under way, and dispatches nothing", async () => {
    await using next = await restored(file);
    const { out, code } = next.ran;
    expect(code).toBe(0);
    expect(out).toMatch(/have ended now: 3;/);
    const { farm: other } = next;
    const agent = await other.agent("upload", "flasher");
    const builder = await other.agent("compile", "builder");
    await other.untilKnown("flasher");
    await other.untilKnown("builder");
    await other.untilArchived();
    expect(await other.history()).toEqual(expect.arrayContaining([1, 2, 3, 4].map(chainNumber)));
    const before = await farm.chain(chainNumber(1));
    expect(await other.chain(chainNumber(1))).toEqual(before);
    expect((await other.chain(chainNumber(2))).upload).toMatchObject({
      state: "unknown",
      outcome: { failure: { kind: "farm-restored" } },
    });
    expect((await other.chain(chainNumber(3))).compile).toMatchObject({
      state: "cancelled",
      outcome: { cause: "restored" },
    });
    const devices = await farm.ask("devices", { v: 1, kind: "devices" });
    const device = (answer: typeof devices, name: string) =>
      answer.devices.find(({ configuration }) => configuration === name);
    const now = await other.ask("devices", { v: 1, kind: "devices" });
    expect(device(now, "device 1")).toEqual(device(devices, "device 1"));
    expect(device(now, "device 2")).toMatchObject({ state: "unknown" });
    expect([agent.deliveries, builder.deliveries]).toEqual([0, 0]);
    expect(await entriesOf(other.user)).toEqual(await entriesOf(farm.user));
    // A person who has looked settles it.
    const settled = await other.ask("device-resolved", {
      v: 1,
      kind: "resolve-device",
      reference: chainNumber(2),
      isRunning: true,
    });
    expect(settled.chain.upload?.state).toBe("succeeded");
  });

  test("with --objects brings back images as well", async () => {
    const full = join(folder.path, "full.tar.zst");
    expect((await run(farm.server.url, "backup", full, "--objects", "--logs")).out).toMatch(/OBJ_fy_artifacts/);
    await using next = await restored(full);
    expect(await new ObjectStore(next.farm.user, objectStores.artifacts).has(digestOf(object))).toBe(true);
  });

  test("that breaks off takes back what it has written, and can be done again", async () => {
    await using server = await testServer();
    const connection = await server.connect();
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: streams.audit, subjects: ["fy.audit"], max_msg_size: 10 });
    const { code, err } = await run(server.url, "restore", file);
    expect([code, err]).toEqual([2, expect.stringMatching(/takes no more of fy.audit/)]);
    expect(await messagesIn(connection)).toBe(0);
    expect(await run(server.url, "restore", file)).toMatchObject({ code: 0 });
    expect(await messagesIn(connection)).toBeGreaterThan(5);
  });

  test("is refused for a farm that holds something, with what to do, and changes nothing", async () => {
    await farm.stopCoordinator();
    const held = await messagesIn(farm.user);
    const { code, err } = await run(farm.server.url, "restore", file);
    expect(code).toBe(2);
    expect(err).toMatch(/holds something already.*empty store/);
    expect(await messagesIn(farm.user)).toBe(held);
  });

  test("is refused while a coordinator leads", async () => {
    await using server = await testServer();
    const connection = await server.connect();
    const self = { holder: BootId.parse(randomBytes(8).toString("hex")), host: "attic", pid: 7 };
    const lease = new CoordinatorLease(connection, systemClock, self);
    expect(await lease.take()).toBe(true);
    const { code, err } = await run(server.url, "restore", file);
    expect(code).toBe(2);
    expect(err).toMatch(/a coordinator works here \(process 7 on attic\)/);
    expect(await messagesIn(connection)).toBe(0);
  });

  test("lets a coordinator take over at once", async () => {
    await using server = await testServer();
    expect(await run(server.url, "restore", file)).toMatchObject({ code: 0 });
    const self = { holder: BootId.parse(randomBytes(8).toString("hex")), host: "attic", pid: 7 };
    expect(await new CoordinatorLease(await server.connect(), systemClock, self).take()).toBe(true);
  });

  test("into a home is found by the server that runs there next", async () => {
    const home = join(folder.path, "home");
    const { code, err } = await run(undefined, "restore", file, "--home", home);
    expect([code, err.replace(/^nats-server: .*\n/, "")]).toEqual([0, ""]);
    expect(await run(undefined, "restore", file, "--home", home)).toMatchObject({
      code: 2,
      err: /holds something already/,
    });
  });
});

describe("a farm in which machines sign in", () => {
  let home: string;
  let kept: string;

  beforeAll(async () => {
    home = join(folder.path, "signed");
    kept = join(folder.path, "signed.tar.zst");
    const identity = join(home, "identity");
    const { keys, tokens } = await identityFolder(identity, "nats://127.0.0.1:4222");
    const server = await startEmbeddedServer({
      binary: await serverBinary(),
      folder: join(home, "nats"),
      identity: { keys, tokens },
    });
    try {
      expect(await run(server.url, "backup", kept)).toMatchObject({ code: 2, err: /only the coordinator may/ });
      const { connection } = await signIn({
        path: join(identity, "coordinator.json"),
        servers: server.url,
        name: "test",
      });
      const coordinator = new Coordinator(coordinatorPorts(connection), systemClock, silentLog);
      await coordinator.start();
      await new Bucket(connection, buckets.paired, z.unknown()).putAll(new Map([["c1", { v: 1, agent: "c1" }]]));
      expect(await askAdmin(connection, { v: 1, kind: "submit", chains: [installRequest(1)] })).toMatchObject({
        kind: "accepted",
      });
      await coordinator.stop();
      await connection.close();
      expect(await run(server.url, "backup", kept, "--identity", identity)).toMatchObject({ code: 0, err: "" });
    } finally {
      await server.stop();
    }
  });

  test("is backed up with its keys, and they open what is restored", async () => {
    expect((await run(undefined, "backup", "--check", kept)).out).toMatch(/the farm's keys \(3 files\)/);
    const next = join(folder.path, "signed-again");
    expect(await run(undefined, "restore", kept, "--home", next)).toMatchObject({ code: 0 });
    for (const name of ["keys.json", "coordinator.json", "admin.json"]) {
      const [before, now] = [join(home, "identity", name), join(next, "identity", name)];
      expect(await readFile(now)).toEqual(await readFile(before));
      expect((await stat(now)).mode & 0o777).toBe(0o600);
    }
    const { keys, tokens } = await identityFolder(join(next, "identity"), "nats://127.0.0.1:4222");
    const server = await startEmbeddedServer({
      binary: await serverBinary(),
      folder: join(next, "nats"),
      identity: { keys, tokens },
    });
    const who = { path: join(next, "identity", "coordinator.json"), servers: server.url, name: "test" };
    const { connection } = await signIn(who);
    const found = await new ChainStore(connection).load();
    expect(found.chains).toMatchObject([{ id: chainNumber(1), upload: { state: "cancelled" } }]);
    await connection.close();
    await server.stop();
  });

  test("goes on with new keys where the old ones have leaked, and knows none of its agents any more", async () => {
    const next = join(folder.path, "signed-anew");
    expect(await run(undefined, "restore", kept, "--home", next, "--new-keys")).toMatchObject({ code: 0 });
    const old = await readFile(join(home, "identity", "keys.json"));
    expect(await readFile(join(next, "identity", "keys.json"))).not.toEqual(old);
    const { keys, tokens, coordinator } = await identityFolder(join(next, "identity"), "nats://127.0.0.1:4222");
    const server = await startEmbeddedServer({
      binary: await serverBinary(),
      folder: join(next, "nats"),
      identity: { keys, tokens },
    });
    const { connection } = await signIn({ path: coordinator, servers: server.url, name: "test" });
    expect((await new ChainStore(connection).load()).chains).toHaveLength(1);
    expect(await new Bucket(connection, buckets.paired, z.unknown()).all()).toEqual([]);
    await connection.close();
    await server.stop();
    const again = await run(undefined, "restore", kept, "--home", home, "--new-keys");
    expect(again).toMatchObject({ code: 2, err: /has the backup's keys, which --new-keys is to replace/ });
  });

  test("is not restored where another farm's keys are, and nothing is written", async () => {
    const other = join(folder.path, "other");
    await identityFolder(join(other, "identity"), "nats://127.0.0.1:4222");
    const before = await readFile(join(other, "identity", "keys.json"));
    const { code, err } = await run(undefined, "restore", kept, "--home", other);
    expect([code, err]).toEqual([2, expect.stringMatching(/the keys of another farm/)]);
    expect(await readFile(join(other, "identity", "keys.json"))).toEqual(before);
    expect(await readdir(other)).toEqual(["identity"]);
  });
});

/** A new server with what a backup holds, and a coordinator that starts on it. */
async function restored(path: string) {
  const server = await testServer();
  const ran = await run(server.url, "restore", path);
  const next = await ServedFarm.on(server);
  return { ran, farm: next, [Symbol.asyncDispose]: () => next[Symbol.asyncDispose]() };
}
