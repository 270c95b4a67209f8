/** The process of an upload agent: it hears what is awaited, and what it sees comes to the coordinator. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { freePort } from "#actor/loopback-port.ts";
import { plainEnvironment } from "#actor/subprocess.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { watchPresence } from "#bus/presence.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { Sightings } from "#protocol/sighting.ts";
import { MdnsDevice } from "#simulator/mdns-device.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { testServer } from "#test/support/nats-server.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const main = join(import.meta.dirname, "../../upload-agent/main.ts");

test.each(["127.0.0.1", "off"])(
  "an awaited device that wakes is seen within a second, with multicast DNS %s",
  async (mdns) => {
    await using home = await temporaryFolder();
    await using server = await testServer();
    const connection = await server.connect("coordinator");
    const ports = coordinatorPorts(connection);
    await ports.prepare();
    const statements = new Arrivals<Announcement>("statement");
    const sightings = new Arrivals<Sightings>("message of sightings");
    const watching = new AbortController();
    void watchPresence(connection, watching.signal, statements.push).catch(() => undefined);
    ports.onSightings(sightings.push);
    const own = {
      FLASHYARD_NATS_URL: server.url,
      FLASHYARD_AGENT: "attic",
      FLASHYARD_HOME: home.path,
      FLASHYARD_MDNS: mdns,
    };
    const child = spawn(process.execPath, [main], { env: { ...plainEnvironment(), ...own }, stdio: "ignore" });
    const ended = once(child, "exit");
    try {
      const { boot } = await statements.next();
      const apiPort = await freePort();
      ports.publishAwaited([{ name: "sleeper", host: "127.0.0.1", apiPort }]);
      await using device = new AsyncDisposableStack();
      const listener = createServer((socket) => socket.destroy());
      listener.listen(apiPort, "127.0.0.1");
      device.defer(() => void listener.close());
      const answering = await sightings.next(({ seen }) => seen.some(({ via }) => via === "api"));
      expect(answering).toMatchObject({ agent: "attic", boot, seen: [{ name: "sleeper", port: apiPort }] });
      if (mdns === "off") return;
      device.use(await MdnsDevice.start({ name: "sleeper", port: apiPort, mac: "a0b1c2d3e4f5" }));
      const { seen } = await sightings.next(({ seen }) => seen.some(({ via }) => via === "mdns"));
      expect(seen).toMatchObject([{ name: "sleeper", mac: "A0:B1:C2:D3:E4:F5", host: "sleeper.local" }]);
    } finally {
      watching.abort();
      child.kill();
      await ended;
    }
    expect(child.exitCode).toBe(0);
  },
);
