/** Who has asked for what is written down before it is done, against a real server. */
import { createUser } from "@nats-io/nkeys";
import { jetstreamManager } from "@nats-io/jetstream";
import { expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { silentLog } from "#actor/log.ts";
import { readAudit } from "#bus/audit-log.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { farmTokens, userToken } from "#bus/identity/accounts.ts";
import { farmKeysIn } from "#bus/identity/farm-keys.ts";
import { type FarmRole, inboxOf, nameInRequests } from "#bus/identity/permissions.ts";
import { Audit, auditEntryOf } from "#coordinator/audit.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import type { AdminRequest, ChainRequest } from "#protocol/admin.ts";
import { AuditEntry } from "#protocol/audit.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { askBytesMax, chainsPerRequestMax } from "#protocol/limits.ts";
import { adminSubject, streams } from "#protocol/names.ts";
import {
  agentNamed,
  buildRequest,
  chainNumber,
  configurationNamed,
  installRequest,
  renameRequest,
  targetAt,
} from "#test/support/farm-builders.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { ServedFarm } from "#test/support/served-farm.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

async function entriesOf(connection: Connection): Promise<readonly AuditEntry[]> {
  const entries: AuditEntry[] = [];
  for await (const entry of readAudit(connection, {})) entries.push(entry);
  return entries;
}

test("every request that changes something is written down with who states to ask it, and no question is", async () => {
  await using farm = await ServedFarm.start();
  const by = "ann@bench";
  const changes: readonly AdminRequest[] = [
    { v: 1, kind: "submit", chains: [buildRequest(1), installRequest(2, { configuration: "lamp" })] },
    { v: 1, kind: "cancel", of: { reference: "lamp" }, isForced: true },
    { v: 1, kind: "clean", id: chainNumber(3), configuration: configurationNamed("lamp") },
    { v: 1, kind: "hold-device", configuration: configurationNamed("lamp"), isHeld: true, reason: "on the roof" },
    { v: 1, kind: "forget-device", configuration: configurationNamed("lamp") },
    { v: 1, kind: "resolve-device", reference: "lamp", isRunning: true },
    { v: 1, kind: "drain", agent: agentNamed("build-1"), isDrained: true },
    { v: 1, kind: "change-rollout", id: chainNumber(4), action: "pause" },
    { v: 1, kind: "prune-cache", before: 0 },
    { v: 1, kind: "reset", id: chainNumber(5) },
  ];
  for (const change of changes) {
    await askAdmin(farm.user, { v: 1, kind: "status" });
    await askAdmin(farm.user, { ...change, by });
  }
  const entries = await entriesOf(farm.user);
  expect(entries.map(({ kind }) => kind)).toEqual(changes.map(({ kind }) => kind));
  for (const entry of entries) expect(entry).toMatchObject({ v: 1, by, at: expect.any(Number) as number });
  expect(entries[0]).toMatchObject({
    chains: [chainNumber(1), chainNumber(2)],
    configurations: ["device 1", "lamp"],
    detail: "1 build, 1 install",
  });
  expect(entries.map(({ detail }) => detail).slice(1)).toEqual([
    "lamp, by force",
    undefined,
    "on hold: on the roof",
    undefined,
    "lamp runs its build",
    "drained",
    "pause",
    "from before 1970-01-01T00:00:00.000Z",
    undefined,
  ]);
  expect(entries.every(({ name }) => name === undefined)).toBe(true);
});

test("what cannot be written down is not done, and questions are still answered", async () => {
  await using farm = await ServedFarm.start();
  const manager = await jetstreamManager(farm.user);
  await manager.streams.delete(streams.audit);
  const answer = await askAdmin(farm.user, { v: 1, kind: "submit", chains: [buildRequest(1)] });
  expect(answer).toMatchObject({ kind: "refused", code: "unavailable" });
  const held = { kind: "hold-device", configuration: configurationNamed("lamp"), isHeld: true } as const;
  expect(await askAdmin(farm.user, { v: 1, ...held })).toMatchObject({ kind: "refused", code: "unavailable" });
  expect(await farm.status()).toMatchObject({ live: 0 });
  expect((await farm.ask("devices", { v: 1, kind: "devices" })).notes).toEqual([]);
});

test("nothing can be taken from the audit", async () => {
  await using farm = await ServedFarm.start();
  await farm.submit(buildRequest(1));
  const manager = await jetstreamManager(farm.user);
  await expect(manager.streams.purge(streams.audit)).rejects.toThrow(/purge not permitted/);
  await expect(manager.streams.deleteMessage(streams.audit, 1)).rejects.toThrow(/delete not permitted/);
  const { config } = await manager.streams.info(streams.audit);
  await expect(manager.streams.update(streams.audit, { ...config, deny_purge: false })).rejects.toThrow();
  expect(await entriesOf(farm.user)).toHaveLength(1);
});

test("no secret of a request is written down, and the largest request fits", async () => {
  const asker = { at: 0, by: "ann@bench" };
  const target = { ...targetAt("lamp.local"), password: "hunter2", api: { port: 6053, encryptionKey: "c2VjcmV0" } };
  const secret = { ...renameRequest(1), upload: { target } };
  const entry = auditEntryOf({ v: 1, kind: "submit", chains: [secret] }, asker);
  expect(JSON.stringify(entry)).not.toMatch(/hunter2|c2VjcmV0/);
  expect(entry?.configurations).toEqual([secret.configuration, secret.renamedFrom]);
  const long = (n: number): ChainRequest =>
    renameRequest(n, {
      configuration: "温".repeat(115) + String(n).padStart(4, "0"),
      renamed: "温".repeat(115) + String(n + 5_000),
    });
  const chains = Array.from({ length: chainsPerRequestMax }, (_, index) => long(index));
  const largest = auditEntryOf({ v: 1, kind: "submit", chains }, asker);
  expect(AuditEntry.safeParse(largest).success).toBe(true);
  // NATS takes eight megabytes.
  expect(Buffer.byteLength(JSON.stringify(largest))).toBeLessThan(4 * askBytesMax);
});

test("entries go out without waiting for each other, and what they are about waits for those before", async () => {
  const writes: PromiseWithResolvers<void>[] = [];
  const audit = new Audit(() => {
    const write = Promise.withResolvers<void>();
    writes.push(write);
    return write.promise;
  });
  const entry: AuditEntry = { v: 1, at: 0, kind: "reset" };
  const done: number[] = [];
  const noted = [1, 2, 3].map(async (n) => {
    await audit.note(entry);
    done.push(n);
  });
  expect(writes).toHaveLength(3);
  writes[2]?.resolve();
  writes[1]?.reject(new UnavailableError("timeout", "no answer in time"));
  expect(done).toEqual([]);
  writes[0]?.resolve();
  expect((await Promise.allSettled(noted)).map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(done).toEqual([1, 3]);
});

test("where people sign in, the audit has the name that their credentials prove", async () => {
  await using folder = await temporaryFolder();
  const keys = await farmKeysIn(`${folder.path}/identity/keys.json`);
  const identity = { keys, tokens: await farmTokens(keys, {}) };
  const server = await startEmbeddedServer({ binary: await serverBinary(), folder: `${folder.path}/nats`, identity });
  const signIn = async (role: FarmRole) => {
    const user = createUser();
    const token = await userToken(keys, role, user);
    const name = nameInRequests(role);
    const named = name === undefined ? {} : { name };
    return connect(server.url, role.kind, { token, seed: user.getSeed(), inbox: inboxOf(role), ...named });
  };
  const own = await signIn({ kind: "coordinator" });
  const ann = await signIn({ kind: "admin", name: "ann" });
  const coordinator = new Coordinator(coordinatorPorts(own), systemClock, silentLog);
  try {
    await coordinator.start();
    const asked = await askAdmin(ann, { v: 1, kind: "submit", chains: [buildRequest(1)], by: "root@elsewhere" });
    expect(asked).toMatchObject({ kind: "accepted" });
    // Where names are proven, nobody is heard without one.
    const nameless = own.request(adminSubject, JSON.stringify({ v: 1, kind: "status" }), { timeout: 2_000 });
    await expect(nameless).rejects.toThrow(/no responders/i);
    expect(await entriesOf(ann)).toMatchObject([{ name: "ann", by: "root@elsewhere", kind: "submit" }]);
  } finally {
    await coordinator.stop();
    await Promise.all([own.close(), ann.close()]);
    await server.stop();
  }
});
