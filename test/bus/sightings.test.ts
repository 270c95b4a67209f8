/** Hints about devices over a real server. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import type { Connection } from "#bus/connection.ts";
import { onAwaited, sightingsOutlet } from "#bus/sightings.ts";
import { encode } from "#protocol/envelope.ts";
import { awaitedSubject, sightingSubject } from "#protocol/names.ts";
import type { AwaitedDevice, Sightings } from "#protocol/sighting.ts";
import { BootId } from "#protocol/ids.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { agentNamed } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const attic: Sightings = {
  v: 1,
  agent: agentNamed("attic"),
  boot: BootId.parse("boot0000"),
  seen: [{ name: "lamp", host: "lamp.local", addresses: ["192.0.2.7"], port: 6_053, via: "mdns", at: 1 }],
};
const devices = (count: number): readonly AwaitedDevice[] =>
  Array.from({ length: count }, (_, n) => ({ name: `d${n}`, host: `d${n}.local`, otaPort: 3_232 }));

let server: TestServer;
let coordinator: Connection;
let agent: Connection;
beforeEach(async () => {
  server = await testServer();
  [coordinator, agent] = [await server.connect("coordinator"), await server.connect("attic")];
});
afterEach(() => server[Symbol.asyncDispose]());

test("what an agent sees comes to the coordinator", async () => {
  const heard = new Arrivals<Sightings>("message of sightings");
  const ports = coordinatorPorts(coordinator);
  ports.onSightings(heard.push);
  await ports.flush();
  sightingsOutlet(agent)(attic);
  expect(await heard.next()).toEqual(attic);
});

test("nobody speaks for another agent, and what cannot be decoded is passed over", async () => {
  const heard = new Arrivals<Sightings>("message of sightings");
  const ports = coordinatorPorts(coordinator);
  const listening = ports.onSightings(heard.push);
  await ports.flush();
  agent.publish(sightingSubject(agentNamed("cellar")), encode(attic));
  agent.publish(sightingSubject(attic.agent), new TextEncoder().encode("{"));
  agent.publish(sightingSubject(attic.agent), encode({ ...attic, seen: [{ ...attic.seen[0], mac: "a0" }] }));
  sightingsOutlet(agent)(attic);
  await heard.next();
  expect(heard.all).toHaveLength(1);
  listening.stop();
});

test.each([0, 1, 200, 201, 1_000])("a list of %i awaited devices comes whole, in parts", async (count) => {
  const heard = new Arrivals<readonly AwaitedDevice[]>("list");
  onAwaited(agent, heard.push);
  await agent.flush();
  const ports = coordinatorPorts(coordinator);
  ports.publishAwaited(devices(count));
  ports.publishAwaited(devices(1));
  expect(await heard.next()).toEqual(devices(count));
  expect(await heard.next()).toEqual(devices(1));
  expect(heard.all).toHaveLength(2);
});

test("a list of which a part is lost changes nothing, and the next one does", async () => {
  const heard = new Arrivals<readonly AwaitedDevice[]>("list");
  onAwaited(agent, heard.push);
  await agent.flush();
  coordinator.publish(awaitedSubject, encode({ v: 1, round: 7, part: 1, parts: 2, devices: devices(1) }));
  coordinator.publish(awaitedSubject, encode({ v: 1, round: 8, part: 0, parts: 2, devices: devices(2) }));
  coordinator.publish(awaitedSubject, encode({ v: 1, round: 6, part: 0, parts: 1, devices: devices(3) }));
  expect(await heard.next()).toEqual(devices(3));
  expect(heard.all).toHaveLength(1);
});
