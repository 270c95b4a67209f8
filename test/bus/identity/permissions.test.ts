/** Who may do what, tried at a real server: every role at every subject, allowed or refused. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Connection } from "#bus/connection.ts";
import { type FarmRole, inboxOf } from "#bus/identity/permissions.ts";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { AgentId } from "#protocol/ids.ts";
import { declareTopology } from "#bus/topology.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { type SecuredServer, securedServer } from "#test/support/secured-server.ts";

const roles = {
  compile: { kind: "agent", agent: AgentId.parse("c1"), lane: "compile" },
  upload: { kind: "agent", agent: AgentId.parse("u1"), lane: "upload" },
  admin: { kind: "admin", name: "ann" },
  stranger: { kind: "stranger" },
} as const satisfies Record<string, FarmRole>;
type RoleName = keyof typeof roles;

/** What is tried, and the roles that may. `+` is a publish, `<` a subscription. */
const cells: readonly (readonly [string, string, ...RoleName[]])[] = [
  // Speaking to the coordinator, as oneself and as others.
  ["+", "fy.ask.c1", "compile"],
  ["+", "fy.ask.u1", "upload"],
  ["+", "fy.ask.c2"],
  ["+", "fy.ask.c1.more"],
  ["+", "fy.object.c1", "compile"],
  ["+", "fy.object.u1", "upload"],
  ["+", "fy.object.c2"],
  ["+", "fy.admin"],
  ["+", "fy.admin.ann", "admin"],
  ["+", "fy.admin.bob"],
  ["+", "fy.admin.COORDINATOR"],
  ["+", "fy.audit"],
  ["+", "fy.pair", "compile", "upload", "stranger"],
  ["+", "$KV.fy_presence.c1", "compile"],
  ["+", "$KV.fy_presence.u1", "upload"],
  ["+", "$KV.fy_presence.c2"],
  ["+", "fy.progress.c1.chain.compile", "compile"],
  ["+", "fy.progress.u1.chain.upload", "upload"],
  ["+", "fy.log.c1.chain.compile", "compile"],
  ["+", "fy.log.u1.chain.compile", "upload"],
  ["+", "fy.sighting.u1", "upload"],
  ["+", "fy.sighting.c1"],
  ["+", "fy.awaited"],
  ["+", "fy.stop.c1"],
  ["+", "fy.stop.u1"],
  ["+", "fy.prefetch.c1"],
  ["+", "fy.serial.u1", "admin"],
  // The state of the farm.
  ["+", "$KV.fy_chains.0123456789abcdef"],
  ["+", "$KV.fy_chains.fence"],
  ["+", "$KV.fy_history.0123456789abcdef"],
  ["+", "$KV.fy_devices.lamp"],
  ["+", "$KV.fy_agents.c1"],
  ["+", "$KV.fy_paired.c1"],
  ["+", "$KV.fy_paired.revoked.c1"],
  ["+", "$KV.fy_invitations.0123456789abcdef"],
  ["+", "$KV.fy_builds.key"],
  ["+", "$KV.fy_lease.coordinator"],
  // The lanes.
  ["+", "fy.compile.c1"],
  ["+", "fy.upload.u1"],
  ["+", "FARMJS.CONSUMER.MSG.NEXT.FY_LANES.compile-c1", "compile"],
  ["+", "FARMJS.CONSUMER.MSG.NEXT.FY_LANES.upload-u1", "upload"],
  ["+", "FARMJS.CONSUMER.MSG.NEXT.FY_LANES.upload-c1"],
  ["+", "FARMJS.CONSUMER.INFO.FY_LANES.compile-c1", "compile"],
  ["+", "FARMJS.CONSUMER.INFO.FY_LANES.upload-u1", "upload"],
  ["+", "$JS.ACK.FY_LANES.compile-c1.1.1.1.1.0", "compile"],
  ["+", "$JS.ACK.FY_LANES.upload-u1.1.1.1.1.0", "upload"],
  ["+", "FARMJS.CONSUMER.CREATE.FY_LANES.x.fy.compile.c1"],
  ["+", "FARMJS.CONSUMER.DURABLE.CREATE.FY_LANES.x"],
  ["+", "FARMJS.CONSUMER.DELETE.FY_LANES.compile-c1"],
  // JetStream itself.
  ["+", "FARMJS.STREAM.INFO.KV_fy_chains"],
  ["+", "FARMJS.STREAM.MSG.GET.KV_fy_chains"],
  ["+", "FARMJS.DIRECT.GET.KV_fy_chains.$KV.fy_chains.x"],
  ["+", "FARMJS.STREAM.PURGE.FY_LANES"],
  ["+", "$JS.API.INFO", "admin"],
  ["+", "$JS.API.STREAM.CREATE.MINE"],
  ["+", "$JS.API.STREAM.DELETE.KV_fy_chains"],
  ["+", "$JS.API.STREAM.PURGE.KV_fy_chains"],
  ["+", "$JS.API.STREAM.UPDATE.KV_fy_chains"],
  ["+", "$JS.API.STREAM.SNAPSHOT.KV_fy_chains"],
  ["+", "$JS.API.CONSUMER.CREATE.KV_fy_chains.x", "admin"],
  ["+", "$JS.API.CONSUMER.CREATE.FY_LANES.x"],
  // The audit: people read it, and nobody takes anything from it.
  ["+", "$JS.API.CONSUMER.CREATE.FY_AUDIT.x", "admin"],
  ["+", "$JS.API.STREAM.MSG.GET.FY_AUDIT", "admin"],
  ["+", "$JS.API.STREAM.MSG.DELETE.FY_AUDIT"],
  ["+", "$JS.API.STREAM.PURGE.FY_AUDIT"],
  ["+", "$JS.API.STREAM.UPDATE.FY_AUDIT"],
  ["+", "$JS.API.STREAM.DELETE.FY_AUDIT"],
  ["+", "FARMJS.STREAM.INFO.FY_AUDIT"],
  ["+", "FARMJS.DIRECT.GET.FY_AUDIT.fy.audit"],
  // Contents.
  ["+", "FARMJS.DIRECT.GET.OBJ_fy_bundles.$O.fy_bundles.C.x", "compile"],
  ["+", "FARMJS.DIRECT.GET.OBJ_fy_bundles"],
  ["+", "FARMJS.DIRECT.GET.OBJ_fy_artifacts.$O.fy_artifacts.C.x", "upload"],
  ["+", "FARMJS.STREAM.INFO.OBJ_fy_bundles"],
  ["+", "$O.fy_artifacts.C.c1.piece", "compile", "admin"],
  ["+", "$O.fy_artifacts.C.c2.piece", "admin"],
  ["+", "$O.fy_artifacts.M.name", "admin"],
  ["+", "$O.fy_bundles.C.piece", "admin"],
  ["+", "$SYS.REQ.CLAIMS.UPDATE"],
  ["+", "$SYS.REQ.SERVER.PING"],
  // Listening.
  ["<", "_INBOX_compile_c1.>", "compile"],
  ["<", "_INBOX_upload_u1.>", "upload"],
  ["<", "_INBOX_admin_ann.>", "admin"],
  ["<", "_INBOX_stranger.>", "stranger"],
  ["<", "_INBOX.>"],
  ["<", ">"],
  ["<", "fy.>"],
  ["<", "fy.ask.*"],
  ["<", "fy.admin"],
  ["<", "fy.admin.*"],
  ["<", "fy.audit"],
  ["<", "fy.stop.c1", "compile"],
  ["<", "fy.stop.u1", "upload"],
  ["<", "fy.stop.*"],
  ["<", "fy.prefetch.c1", "compile"],
  ["<", "fy.awaited", "upload"],
  ["<", "fy.serial.u1", "upload"],
  ["<", "fy.serial.*"],
  ["<", "fy.progress.>", "admin"],
  ["<", "fy.log.>"],
  ["<", "$KV.>"],
  ["<", "$JS.EVENT.>"],
  ["<", "$SYS.>"],
];

let server: SecuredServer;
let coordinator: Connection;
const connections = {} as Record<RoleName, Connection>;
/** What the server has refused to each. */
const refusals = {} as Record<RoleName, Arrivals<string>>;
/** Refused to everybody: what was tried before it has been answered when its refusal comes. */
const marker = "nobody.may";

beforeAll(async () => {
  server = await securedServer();
  coordinator = await server.signIn({ kind: "coordinator" });
  await declareTopology(coordinator);
  for (const name of Object.keys(roles) as RoleName[]) {
    const connection = await server.signIn(roles[name]);
    connections[name] = connection;
    refusals[name] = new Arrivals(`refusal of ${name}`);
    void (async () => {
      for await (const status of connection.status()) {
        if (status.type === "error") refusals[name].push(status.error.message);
      }
    })();
  }
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

/** Whether the server lets a role do it. */
async function isAllowed(name: RoleName, kind: string, subject: string): Promise<boolean> {
  const [connection, arrivals] = [connections[name], refusals[name]];
  const before = arrivals.all.length;
  if (kind === "+") connection.publish(subject, "{}", { reply: `${inboxOf(roles[name])}.answer` });
  else {
    const subscription = connection.subscribe(subject, { callback: () => undefined });
    await connection.flush();
    if (!subscription.isClosed()) subscription.unsubscribe();
  }
  connection.publish(marker);
  await arrivals.next((message) => message.includes(`"${marker}"`));
  return !arrivals.all.slice(before).some((message) => message.includes(`"${subject}"`));
}

test("there are 150 cells and more", () => {
  expect(cells.length * Object.keys(roles).length).toBeGreaterThan(150);
});

describe.each(Object.keys(roles) as RoleName[])("as %s", (name) => {
  test.each(cells)("%s %s", async (kind, subject, ...allowed) => {
    expect(await isAllowed(name, kind, subject)).toBe(allowed.includes(name));
  });
});

test("a reply subject that an agent chooses leads nowhere in the farm's account", async () => {
  const manager = await jetstreamManager(coordinator);
  const before = (await manager.streams.info("KV_fy_chains")).state.last_seq;
  const served = coordinator.subscribe("fy.ask.*", { callback: (_error, message) => void message.respond("forged") });
  await coordinator.flush();
  const victim = "$KV.fy_chains.0123456789abcdef";
  const { compile } = connections;
  compile.publish("fy.ask.c1", "{}", { reply: victim });
  compile.publish("$KV.fy_presence.c1", "{}", { reply: victim });
  compile.publish("fy.log.c1.chain.compile", "{}", { reply: victim });
  compile.publish("FARMJS.CONSUMER.INFO.FY_LANES.compile-c1", "", { reply: victim });
  await compile.flush();
  // Its own answer comes behind whatever the others did.
  await compile.request("fy.ask.c1", "{}", { timeout: 2_000 });
  await coordinator.flush();
  served.unsubscribe();
  expect((await manager.streams.info("KV_fy_chains")).state.last_seq).toBe(before);
});

test("an agent pulls its lane, and is heard", async () => {
  const manager = await jetstreamManager(coordinator);
  await manager.consumers.add("FY_LANES", {
    durable_name: "compile-c1",
    filter_subject: "fy.compile.c1",
    ack_policy: "explicit",
  });
  await jetstream(coordinator).publish("fy.compile.c1", "job");
  const consumer = await jetstream(connections.compile, { apiPrefix: "FARMJS" }).consumers.get(
    "FY_LANES",
    "compile-c1",
  );
  const message = await consumer.next({ expires: 2_000 });
  expect(message?.string()).toBe("job");
  expect(await message?.ackAck()).toBe(true);
});
