/** Devices are seen when they speak or answer, and what is seen is said as often as it matters. */
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import type { AwaitedDevice, Sighting } from "#protocol/sighting.ts";
import { SimulatedApi } from "#simulator/native-api.ts";
import { startFullHouse } from "#test/fixtures/full-house.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { SteppedClock } from "#test/support/stepped-clock.ts";
import { AwaitedAddresses } from "#upload-agent/device-watch-addresses.ts";
import { DeviceWatch } from "#upload-agent/device-watch.ts";

const neverOver = new AbortController().signal;

/** A watch whose multicast DNS and coordinator are played by the test. */
class Bench implements AsyncDisposable {
  readonly said = new Arrivals<Sighting>("sighting");
  readonly messages: (readonly Sighting[])[] = [];
  /** Hosts that the watch is about to connect to. */
  readonly knocks = new Arrivals<string>("knock");
  readonly watch: DeviceWatch;
  readonly #parts = new AsyncDisposableStack();
  see: (sighting: Sighting) => void = () => undefined;
  await: (devices: readonly AwaitedDevice[]) => void = () => undefined;

  constructor(clock: Clock) {
    this.watch = new DeviceWatch({
      clock,
      mdns: {
        onSighting: (call) => {
          this.see = call;
          return { stop: () => undefined };
        },
        addressesOf: (host) => {
          this.knocks.push(host);
          return ["127.0.0.1"];
        },
        resolve: () => Promise.resolve([]),
      },
      onAwaited: (handle) => {
        this.await = handle;
        return { stop: () => undefined };
      },
      publish: (seen) => {
        this.messages.push(seen);
        for (const one of seen) this.said.push(one);
      },
    });
    this.#parts.use(this.watch);
  }

  async open(port: number): Promise<Server> {
    const server = createServer((socket) => socket.on("error", () => undefined).on("data", () => socket.destroy()));
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    this.#parts.defer(() => void server.close());
    return server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }
}

const heard = (name: string, more: Partial<Sighting> = {}): Sighting => ({
  name,
  host: `${name}.local`,
  addresses: ["192.0.2.7"],
  via: "mdns",
  at: 0,
  ...more,
});
const close = async (server: Server) => {
  server.close();
  await once(server, "close");
};

describe("a device that is awaited", () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = new Bench(systemClock);
    await bench.watch.start();
  });
  afterEach(() => bench[Symbol.asyncDispose]());

  test("is seen within a second of the moment at which its port opens", async () => {
    const apiPort = await freePort();
    bench.await([{ name: "lamp", host: "127.0.0.1", apiPort, otaPort: 1 }]);
    await bench.open(apiPort);
    const openedAt = performance.now();
    expect(await bench.said.next()).toMatchObject({ name: "lamp", host: "127.0.0.1", port: apiPort, via: "api" });
    expect(performance.now() - openedAt).toBeLessThan(1_000);
  });

  test("is seen by its OTA port where it has no API", async () => {
    const otaPort = await freePort();
    await bench.open(otaPort);
    bench.await([{ name: "lamp", host: "127.0.0.1", otaPort }]);
    expect(await bench.said.next()).toMatchObject({ name: "lamp", port: otaPort });
  });

  test("is seen by the name and the address that it says itself, which may be those of another one", async () => {
    const said = { name: "fan", mac: "02:00:00:00:aa:01", compilationTime: "", esphomeVersion: "2026.10.0" };
    await using api = new SimulatedApi(() => said);
    const apiPort = await api.listen();
    bench.await([{ name: "lamp", host: "127.0.0.1", apiPort }]);
    const seen = { name: "fan", mac: "02:00:00:00:AA:01", version: "2026.10.0", port: apiPort, via: "api" };
    expect(await bench.said.next()).toMatchObject(seen);
  });

  test.each(["encrypted", "silent", "plain"] as const)(
    "that says nothing usable (%s) is seen by the name of the job",
    async (mode) => {
      const strange = { name: "\u202e lamp", mac: "?", compilationTime: "", esphomeVersion: "" };
      await using api = new SimulatedApi(() => strange, mode);
      const apiPort = await api.listen();
      bench.await([{ name: "lamp", host: "127.0.0.1", apiPort }]);
      const sighting = await bench.said.next();
      expect(sighting).toMatchObject({ name: "lamp", port: apiPort });
      expect(sighting.mac).toBeUndefined();
    },
  );

  test("is seen within two seconds beside 49 others that are silent", async () => {
    await using house = await startFullHouse();
    const silent = Array.from({ length: 49 }, (_, n) => ({ name: `d${n}`, host: "127.0.0.1", apiPort: house.port }));
    const apiPort = await freePort();
    bench.await([...silent, { name: "lamp", host: "lamp.local", apiPort }]);
    for (let n = 0; n < 3; n++) await bench.knocks.next();
    await bench.open(apiPort);
    const openedAt = performance.now();
    expect(await bench.said.next()).toMatchObject({ name: "lamp" });
    expect(performance.now() - openedAt).toBeLessThan(2_000);
  });
});

describe("while hours pass", () => {
  let clock: SteppedClock;
  let bench: Bench;
  const pass = (ms: number) => {
    clock.pass(ms);
    clock.endPauses();
  };
  beforeEach(async () => {
    clock = new SteppedClock();
    bench = new Bench(clock);
    await bench.watch.start();
  });
  afterEach(() => bench[Symbol.asyncDispose]());

  test("a device that goes on answering is said each ten seconds", async () => {
    const apiPort = await freePort();
    await bench.open(apiPort);
    bench.await([{ name: "lamp", host: "lamp.local", apiPort }]);
    await bench.said.next();
    for (let round = 0; round < 3; round++) {
      for (let half = 0; half < 2; half++) {
        bench.await([{ name: "lamp", host: "lamp.local", apiPort }]);
        pass(5_000);
        await bench.knocks.next();
      }
      await bench.said.next();
    }
    expect(bench.said.all).toHaveLength(4);
  });

  test("a device that sleeps and wakes again is said at once", async () => {
    const apiPort = await freePort();
    const server = await bench.open(apiPort);
    bench.await([{ name: "lamp", host: "lamp.local", apiPort }]);
    await bench.said.next();
    await close(server);
    await bench.knocks.next();
    for (const ms of [5_000, 800, 800]) {
      pass(ms);
      await bench.knocks.next();
    }
    // The one before the last certainly found nobody.
    await bench.open(apiPort);
    pass(800);
    await bench.said.next();
    expect(bench.said.all).toHaveLength(2);
  });

  test("a device that is not awaited any more is left in peace", async () => {
    const devices = ["lamp", "fan"].map((name) => ({ name, host: `${name}.local`, apiPort: 1 }));
    bench.await(devices);
    await bench.knocks.next((host) => host === "lamp.local");
    bench.await(devices.slice(1));
    const before = bench.knocks.all.length;
    for (let n = 0; n < 5; n++) {
      pass(800);
      await bench.knocks.next((host) => host === "fan.local");
    }
    expect(bench.knocks.all.slice(before)).not.toContain("lamp.local");
  });

  test("a list that is not repeated for half a minute is forgotten", async () => {
    bench.await([{ name: "lamp", host: "lamp.local", apiPort: 1 }]);
    await bench.knocks.next();
    pass(30_001);
    bench.await([]);
    bench.await([{ name: "fan", host: "fan.local", apiPort: 1 }]);
    expect(await bench.knocks.next((host) => host === "fan.local")).toBe("fan.local");
    expect(bench.knocks.all.filter((host) => host === "lamp.local")).toHaveLength(1);
  });

  test("what multicast DNS repeats is said once a minute, and what is new at once", async () => {
    bench.see(heard("lamp"));
    await bench.said.next();
    pass(59_000);
    bench.see(heard("lamp"));
    bench.see(heard("lamp", { configHash: "0badcafe" }));
    expect(await bench.said.next()).toMatchObject({ configHash: "0badcafe" });
    pass(60_000);
    bench.see(heard("lamp", { configHash: "0badcafe" }));
    await bench.said.next();
    expect(bench.said.all).toHaveLength(3);
  });

  test("a device that becomes awaited is said at its next word, and then each ten seconds", async () => {
    const lamp = heard("lamp-d3e4f5", { mac: "A0:B1:C2:D3:E4:F5" });
    bench.see(lamp);
    await bench.said.next();
    bench.see(lamp);
    bench.await([{ name: "lamp-d3e4f5", host: "lamp.local" }]);
    bench.see(lamp);
    await bench.said.next();
    bench.await([{ name: "lamp", host: "lamp.local" }]);
    pass(9_000);
    bench.see(lamp);
    pass(1_000);
    bench.see(lamp);
    await bench.said.next();
    expect(bench.said.all).toHaveLength(3);
  });

  test("many at once go out a hundred in a message", async () => {
    for (let n = 0; n < 250; n++) bench.see(heard(`d${n}`));
    for (let n = 0; n < 250; n++) await bench.said.next();
    expect(bench.messages.map((seen) => seen.length)).toEqual([100, 100, 50]);
  });
});

test("it stops before it has started, while it starts and twice, and says nothing afterwards", async () => {
  for (const isEarly of [true, false]) {
    await using bench = new Bench(systemClock);
    if (isEarly) await bench.watch.stop();
    const starting = bench.watch.start();
    await bench.watch.stop();
    await starting;
    bench.see(heard("lamp"));
    bench.await([{ name: "lamp", host: "lamp.local", apiPort: 1 }]);
    await bench.watch.stop();
    expect([bench.messages, bench.knocks.all]).toEqual([[], []]);
  }
});

describe("the addresses of an awaited device", () => {
  test("are its own where it has no name, and the system's for names of the system", async () => {
    const addresses = new AwaitedAddresses(undefined, systemClock);
    expect(await addresses.of("192.0.2.7", neverOver)).toEqual(["192.0.2.7"]);
    expect(await addresses.of("localhost", neverOver)).toContain("127.0.0.1");
    expect(await addresses.of("nobody.invalid", neverOver)).toEqual([]);
  });

  test("are asked of the network each ten seconds, and not of the system, for a local name", async () => {
    const clock = new SteppedClock();
    const asked = new Arrivals<string>("question");
    const resolve = async (host: string) => {
      asked.push(host);
      return { kind: "not-connected" as const, detail: "nobody" };
    };
    const addresses = new AwaitedAddresses({ addressesOf: () => [], resolve }, clock);
    for (let n = 0; n < 3; n++) {
      expect(await addresses.of("lamp.local", neverOver)).toEqual([]);
      expect(await addresses.of("lamp.local", neverOver)).toEqual([]);
      expect(asked.all).toHaveLength(n + 1);
      clock.pass(10_000);
    }
  });
});
