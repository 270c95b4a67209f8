/** What the coordinator remembers of devices that upload agents have seen. */
import { expect, test } from "vitest";
import { SeenDevices } from "#coordinator/sightings.ts";
import { type Sighting, Sightings } from "#protocol/sighting.ts";
import { agentNamed } from "#test/support/farm-builders.ts";
import { SteppedClock } from "#test/support/stepped-clock.ts";

const minuteMs = 60_000;
const sighting = (name: string, mac?: string): Sighting => ({
  name,
  ...(mac === undefined ? {} : { mac }),
  host: `${name}.local`,
  addresses: ["192.0.2.7"],
  via: "mdns",
  at: 0,
});
const from = (agent: string, ...seen: readonly Sighting[]): Sightings => ({
  v: 1,
  agent: agentNamed(agent),
  boot: Sightings.shape.boot.parse("boot0000"),
  seen: [...seen],
});
const [first, second] = ["A0:B1:C2:D3:E4:01", "A0:B1:C2:D3:E4:02"];

function bench() {
  const clock = new SteppedClock();
  const devices = new SeenDevices(clock);
  return { clock, devices, reach: (name: string) => devices.reachOf(name).map(({ agent }) => agent) };
}

test("an agent reaches what it has seen, and who saw it last comes first", () => {
  const { devices, reach } = bench();
  devices.hear(from("attic", sighting("lamp"), sighting("fan")));
  devices.hear(from("cellar", sighting("lamp")));
  expect(reach("lamp")).toEqual(["cellar", "attic"]);
  devices.hear(from("attic", sighting("lamp", first)));
  expect(reach("lamp")).toEqual(["attic", "cellar"]);
  expect(devices.reachOf("lamp")[0]?.last.mac).toBe(first);
  expect(reach("fan")).toEqual(["attic"]);
  expect(reach("nobody")).toEqual([]);
});

test("what nobody has seen for ten minutes is forgotten (1)", () => {
  const { clock, devices, reach } = bench();
  devices.hear(from("attic", sighting("lamp", first)));
  clock.pass(6 * minuteMs);
  devices.hear(from("cellar", sighting("lamp", second)));
  expect(reach("lamp")).toEqual(["cellar", "attic"]);
  expect(devices.twins()).toHaveLength(1);
  clock.pass(5 * minuteMs);
  expect(reach("lamp")).toEqual(["cellar"]);
  expect(devices.twins()).toEqual([]);
  clock.pass(6 * minuteMs);
  expect(reach("lamp")).toEqual([]);
});

test("a name that two devices claim is one of twins, whoever saw them", () => {
  const { devices } = bench();
  devices.hear(from("attic", sighting("lamp", second), sighting("fan", first)));
  devices.hear(from("cellar", sighting("lamp", first), sighting("fan", first), sighting("fan")));
  expect(devices.twins()).toEqual([{ name: "lamp", macs: [first, second] }]);
});

test("ten thousand names are kept, and the newest is among them (2)", () => {
  const { devices, reach } = bench();
  for (let n = 0; n <= 10_000; n++) devices.hear(from("attic", sighting(`d${n}`)));
  expect(reach("d0")).toEqual([]);
  expect(reach("d1")).toEqual(["attic"]);
  expect(reach("d10000")).toEqual(["attic"]);
});

test("one name has sixteen agents and addresses at most (2)", () => {
  const { devices, reach } = bench();
  for (let n = 10; n < 40; n++) devices.hear(from(`a${n}`, sighting("lamp", `A0:B1:C2:D3:E4:${n}`)));
  expect(reach("lamp")).toHaveLength(16);
  expect(reach("lamp")[0]).toBe("a39");
  expect(devices.twins()[0]?.macs).toHaveLength(16);
});
