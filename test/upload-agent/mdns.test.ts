/** Devices that announce themselves, over real multicast on loopback. */
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { type Log, silentLog } from "#actor/log.ts";
import { Sighting } from "#protocol/sighting.ts";
import { type DeviceRecord, writeAnswer } from "#simulator/mdns-message.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { loopback, MulticastBench } from "#test/support/multicast-bench.ts";
import { SteppedClock } from "#test/support/stepped-clock.ts";
import { resolveHost, resolveLocalNamesBy } from "#upload-agent/device-connection.ts";
import { ownNetworks } from "#upload-agent/mdns-link.ts";
import { readPacket } from "#upload-agent/mdns-records.ts";
import { isLocal } from "#upload-agent/local-name.ts";
import { Mdns } from "#upload-agent/mdns.ts";

const service = "_esphomelib._tcp.local";
const sleeper = {
  name: "sleeper",
  mac: "A0:B1:C2:D3:E4:F5",
  host: "sleeper.local",
  addresses: ["127.0.0.1"],
  port: 6_053,
  version: "2026.10.0",
  configHash: "0badcafe",
  network: "wifi",
  via: "mdns",
};
const within = (withinMs: number) => ({ withinMs, signal: new AbortController().signal });

let bench: MulticastBench;
beforeEach(async () => {
  bench = await MulticastBench.open();
});
afterEach(() => bench[Symbol.asyncDispose]());

test("a device that is there already is found by the first question", async () => {
  await bench.device();
  await bench.mdns();
  const sighting = await bench.sightings.next();
  expect(sighting).toMatchObject(sleeper);
  expect(Sighting.parse(sighting)).toEqual(sighting);
});

test("a device that joins the network is seen without a question", async () => {
  await bench.mdns();
  const before = performance.now();
  await bench.device();
  expect(await bench.sightings.next()).toMatchObject(sleeper);
  expect(performance.now() - before).toBeLessThan(1_000);
});

test("a device that says its name only is asked for the rest", async () => {
  await bench.mdns();
  await bench.device({ isTerse: true });
  expect(await bench.sightings.next(({ mac, addresses }) => mac !== undefined && addresses.length > 0)).toMatchObject(
    sleeper,
  );
});

test("what another agent asks tells this one as well, and each word is a sign of life", async () => {
  await bench.mdns();
  const device = await bench.device();
  await bench.sightings.next();
  await device.announce();
  await bench.sightings.next();
  await device.sayGoodbye();
  await device.announce();
  expect(await bench.sightings.next()).toMatchObject(sleeper);
});

describe("what is heard later", () => {
  const later = async (record: DeviceRecord) => {
    await bench.mdns();
    await bench.device();
    await bench.sightings.next();
    await bench.send(writeAnswer([record]));
    return bench.sightings.next();
  };

  test("of an address takes the place of the one before, but for the other kind of address", async () => {
    const address = (type: "A" | "AAAA", text: string) => ({
      type,
      name: "sleeper.local",
      ttlSeconds: 120,
      address: text,
    });
    expect(await later(address("AAAA", "fd00::9"))).toMatchObject({ addresses: ["127.0.0.1", "fd00::9"] });
    await bench.send(writeAnswer([address("A", "127.0.0.2")]));
    expect(await bench.sightings.next()).toMatchObject({ addresses: ["127.0.0.2", "fd00::9"] });
    // Without its network it leads nowhere.
    await bench.send(writeAnswer([address("AAAA", "fe80::9"), address("A", "127.0.0.3")]));
    expect(await bench.sightings.next()).toMatchObject({ addresses: ["127.0.0.3", "fd00::9"] });
  });

  test("of its texts takes the place of all of them", async () => {
    const texts = ["version=2026.11.0", "mac=a0b1c2d3e4f5"];
    const sighting = await later({ type: "TXT", name: `sleeper.${service}`, ttlSeconds: 4_500, texts });
    expect(sighting).toMatchObject({ version: "2026.11.0", port: 6_053, host: "sleeper.local" });
    expect(sighting).not.toHaveProperty("configHash");
  });
});

describe("a name", () => {
  test("is resolved by asking the network", async () => {
    const mdns = await bench.mdns();
    await bench.device({ address: "127.0.0.5" });
    expect(await mdns.resolve("Sleeper.local", within(5_000))).toEqual(["127.0.0.5"]);
    expect(mdns.addressesOf("sleeper.local.")).toEqual(["127.0.0.5"]);
  });

  test("is found for a flash where the system does not know it", async () => {
    const mdns = await bench.mdns();
    await bench.device({ address: "127.0.0.5" });
    expect(await resolveHost("sleeper.local", within(5_000))).toMatchObject({ kind: "not-connected" });
    resolveLocalNamesBy((host, options) => mdns.resolve(host, options));
    expect(await resolveHost("sleeper.local", within(5_000))).toEqual(["127.0.0.5"]);
    expect(await resolveHost("nobody.local", within(1_000))).toMatchObject({ kind: "not-connected" });
    resolveLocalNamesBy(undefined);
  });

  test("that nobody has is given up in time", async () => {
    const mdns = await bench.mdns();
    expect(await mdns.resolve("nobody.local", within(50))).toMatchObject({
      detail: "nobody is called nobody.local here",
    });
    expect(await mdns.resolve("example.com", within(5_000))).toMatchObject({ kind: "not-connected" });
  });

  test("is not waited for any more when the flash is stopped, or the agent", async () => {
    const mdns = await bench.mdns();
    const stopping = new AbortController();
    const resolving = mdns.resolve("nobody.local", { withinMs: 60_000, signal: stopping.signal });
    stopping.abort();
    expect(await resolving).toMatchObject({ kind: "not-connected" });
    const last = mdns.resolve("nobody.local", within(60_000));
    await mdns.stop();
    expect(await last).toMatchObject({ kind: "not-connected" });
  });

  test.each([
    ["sleeper.local", true],
    ["SLEEPER.LOCAL.", true],
    ["local", false],
    ["example.com", false],
    ["a b.local", false],
    [`${"a".repeat(64)}.local`, false],
  ])("%s is one of multicast DNS: %s", (host, expected) => expect(isLocal(host)).toBe(expected));
});

describe("what a device says", () => {
  test.each([
    ["mac=xyz", { mac: undefined }],
    ["version=\u001b[31m", { version: undefined }],
    ["config_hash=" + "f".repeat(200), { configHash: undefined }],
    ["network=two words", { network: undefined }],
  ])("%j is passed over", async (text, expected) => {
    await bench.mdns();
    await bench.device({ texts: [text] });
    const { mac, version, configHash, network } = await bench.sightings.next();
    expect({ mac, version, configHash, network }).toMatchObject(expected);
  });

  test("under a name that no device of ESPHome has is nothing", async () => {
    await bench.mdns();
    await bench.device({ name: "a b" });
    await bench.device({ name: "räuber" });
    await bench.device();
    expect(await bench.sightings.next()).toMatchObject(sleeper);
  });

  test("is bounded: five thousand devices are remembered, and the newest is among them", async () => {
    const mdns = await bench.mdns();
    const address = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
    for (let n = 0; n < 5_100; n += 100) {
      const hosts = Array.from({ length: 100 }, (_, i) => ({
        name: `d${n + i}.local`,
        type: "A" as const,
        ttlSeconds: 120,
        address: address(n + i),
      }));
      await bench.send(writeAnswer(hosts));
      const last = `d${n + 99}.local`;
      expect(await mdns.resolve(last, within(5_000))).toEqual([address(n + 99)]);
    }
    expect(mdns.addressesOf("d0.local")).toEqual([]);
    expect(mdns.addressesOf("d5099.local")).toEqual([address(5_099)]);
  });
});

describe("a bad packet", () => {
  test("is passed over, and the next good one is heard", async () => {
    await bench.mdns();
    const device = await bench.device();
    await bench.sightings.next();
    const good = bench.packets.all.findLast((packet) => packet.includes("sleeper"))!;
    const bad = fc.oneof(
      fc.uint8Array({ maxLength: 1_400 }),
      fc.nat(good.length).map((end) => good.subarray(0, end)),
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }).map((changes) => {
        const changed = Buffer.from(good);
        for (const [at, byte] of changes) changed[at] = byte;
        return changed;
      }),
    );
    await fc.assert(
      fc.asyncProperty(bad, (bytes) => bench.send(bytes)),
      { numRuns: 300 },
    );
    for (const sighting of bench.sightings.all) expect(Sighting.safeParse(sighting).error).toBeUndefined();
    const count = bench.sightings.all.length;
    await device.announce();
    await bench.sightings.next(({ name }) => name === "sleeper" && bench.sightings.all.length > count);
  });

  test("is nothing, whatever it is made of", () => {
    const anyRecord = fc.record({
      name: fc.oneof(fc.string(), fc.constant(service), fc.constant(`x.${service}`)),
      type: fc.constantFrom("PTR", "SRV", "TXT", "A", "AAAA", "NSEC"),
      ttl: fc.nat(),
      data: fc.anything(),
    });
    const anyPacket = fc.oneof(
      fc.anything(),
      fc.record({ answers: fc.array(fc.oneof(anyRecord, fc.anything())), additionals: fc.array(anyRecord) }),
    );
    fc.assert(fc.property(anyPacket, (packet) => void readPacket(packet)));
  });
});

describe("the service", () => {
  /** A log whose warnings are kept. */
  const warnings = () => {
    const said: unknown[] = [];
    const log: Log = Object.assign(Object.create(silentLog), { warn: (facts: unknown) => said.push(facts) });
    return { said, log };
  };
  const options = () => ({ clock: systemClock, log: silentLog, networks: () => [loopback], port: bench.port });

  test("stops before it has started, while it starts and twice", async () => {
    const early = new Mdns(options());
    await early.stop();
    await early.start();
    const quick = new Mdns(options());
    const starting = quick.start();
    await quick.stop();
    await starting;
    await quick.stop();
    expect(await quick.resolve("nobody.local", within(10))).toMatchObject({ kind: "not-connected" });
  });

  test("goes on where multicast is not possible, and says so once", async () => {
    const { said, log } = warnings();
    for (const networks of [() => [], () => ["203.0.113.1"]]) {
      await using mdns = new Mdns({ ...options(), log, networks });
      await mdns.start();
      expect(await mdns.resolve("sleeper.local", within(5_000))).toMatchObject({
        detail: "multicast DNS is not possible here",
      });
    }
    const reason = "no network of this machine takes multicast";
    expect(said).toEqual([{ reason }, { reason }]);
  });

  test("finds a network that comes later, and complains once until then", async () => {
    const clock = new SteppedClock();
    const { said, log } = warnings();
    const networks: string[] = [];
    const tries = new Arrivals("try");
    const pass = () => {
      clock.pass(60_000);
      clock.endPauses();
    };
    await bench.mdns({
      clock,
      log,
      networks: () => {
        tries.push(undefined);
        return networks;
      },
    });
    await tries.next();
    pass();
    await tries.next();
    networks.push(loopback);
    await bench.device();
    await vi.waitFor(() => {
      pass();
      expect(bench.sightings.all[0]).toMatchObject(sleeper);
    });
    expect(said).toHaveLength(1);
  });

  test("knows a network of this machine", () => {
    expect(ownNetworks().length).toBeGreaterThan(0);
  });
});
