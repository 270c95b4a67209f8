/** Uploads that wait for a part of the day, for their device, for another agent, or for a person. */
import { describe, expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import { PortId } from "#protocol/serial.ts";
import { describeWindow, parseWindow } from "#protocol/timing.ts";
import { explain } from "#coordinator/core/explain.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import { awaitedTargets, awaitEveryMs, isWithin } from "#coordinator/core/timing.ts";
import {
  agentNamed,
  chainNumber,
  configurationNamed,
  failedWith,
  failures,
  flashed,
  statementOf,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

type Upload = NonNullable<ChainRequest["upload"]>;

function uploadWith(n: number, more: Partial<Upload>): ChainRequest {
  const request = uploadRequest(n);
  return request.upload === undefined ? request : { ...request, upload: { ...request.upload, ...more } };
}

const unreachable = failedWith(failures.later);

describe("a part of the day", () => {
  const at = (text: string) => Date.parse(text);

  test("goes by the clock of its zone, through the change of summer time", () => {
    const night = { from: 120, to: 300, zone: "Europe/Berlin" };
    expect(isWithin(night, at("2026-01-15T01:00:00Z"))).toBe(true);
    expect(isWithin(night, at("2026-01-15T00:59:59Z"))).toBe(false);
    expect(isWithin(night, at("2026-01-15T04:00:00Z"))).toBe(false);
    expect(isWithin(night, at("2026-07-15T00:00:00Z"))).toBe(true);
    expect(isWithin(night, at("2026-07-15T03:00:00Z"))).toBe(false);
  });

  test("may go over midnight, and equal ends are the whole day", () => {
    const late = { from: 1_380, to: 60, zone: "UTC" };
    expect(isWithin(late, at("2026-01-15T23:30:00Z"))).toBe(true);
    expect(isWithin(late, at("2026-01-15T00:59:00Z"))).toBe(true);
    expect(isWithin(late, at("2026-01-15T12:00:00Z"))).toBe(false);
    expect(isWithin({ from: 5, to: 5, zone: "UTC" }, at("2026-01-15T12:00:00Z"))).toBe(true);
  });

  test("is read as it is written, and nothing else is", () => {
    const window = parseWindow("02:00-05:30", "UTC");
    expect(window).toEqual({ from: 120, to: 330, zone: "UTC" });
    expect(window === undefined ? "" : describeWindow(window)).toBe("02:00-05:30 (UTC)");
    for (const text of ["2-5", "24:00-05:00", "02:60-05:00", "02:00", ""])
      expect(parseWindow(text, "UTC")).toBe(undefined);
  });

  test("keeps an upload back until it comes, and says so", () => {
    const farm = new TestFarm();
    farm.at = at("2026-01-15T12:00:00Z");
    farm.uploadAgent("pi");
    farm.submit(uploadWith(1, { timing: { window: { from: 120, to: 300, zone: "UTC" } } }));
    expect(farm.job(1, "upload").state).toBe("queued");
    expect(explain(farm.farm, chainNumber(1), farm.at).join("\n")).toContain("begins between 02:00-05:00 (UTC) only");
    farm.at = at("2026-01-16T02:00:00Z");
    farm.uploadAgent("pi");
    expect(farm.job(1, "upload").state).toBe("dispatched");
  });
});

describe("an upload that waits for its device", () => {
  const timing = { isAwaited: true };

  function waiting(): TestFarm {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadWith(1, { timing }));
    farm.claim(1, "upload");
    farm.report(1, "upload", unreachable);
    return farm;
  }

  test("is tried at once, and then waits, however often nobody answers", () => {
    const farm = waiting();
    expect(farm.job(1, "upload")).toMatchObject({ state: "queued", notBeforeAt: farm.at + awaitEveryMs });
    expect(awaitedTargets(farm.farm).map(({ name }) => name)).toEqual(["device-1"]);
    for (let tries = 0; tries < 20; tries += 1) {
      farm.at += awaitEveryMs;
      farm.uploadAgent("pi");
      farm.claim(1, "upload");
      farm.report(1, "upload", unreachable);
    }
    expect(farm.job(1, "upload").state).toBe("queued");
  });

  test("goes on in the moment in which an agent hears its device, to that agent", () => {
    const farm = waiting();
    farm.uploadAgent("attic");
    farm.farm = {
      ...farm.farm,
      knowledge: { ...noKnowledge, reach: new Map([["device-1", new Set([agentNamed("attic")])]]) },
    };
    farm.send({ kind: "device-seen", names: ["another"], agent: agentNamed("attic") });
    expect(farm.job(1, "upload").state).toBe("queued");
    farm.send({ kind: "device-seen", names: ["device-1"], agent: agentNamed("attic") });
    expect(farm.job(1, "upload")).toMatchObject({ state: "dispatched", assigned: { agent: "attic" } });
    expect(awaitedTargets(farm.farm)).toEqual([]);
  });

  test("is known by its address where that is known: another device of its name does not wake it", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    const request = uploadWith(1, { timing });
    const { upload } = request;
    if (upload?.target.kind !== "ota") throw new Error("it is no upload");
    farm.submit({ ...request, upload: { ...upload, target: { ...upload.target, mac: "AA:BB:CC:00:00:01" } } });
    farm.claim(1, "upload");
    farm.report(1, "upload", unreachable);
    const seen = (mac: string) => farm.send({ kind: "device-seen", names: ["device-1"], mac, agent: agentNamed("pi") });
    seen("AA:BB:CC:00:00:02");
    expect(farm.job(1, "upload").state).toBe("queued");
    seen("AA:BB:CC:00:00:01");
    expect(farm.job(1, "upload").state).toBe("dispatched");
  });
});

describe("a device that one agent does not reach", () => {
  test("is tried by every other before there is a pause", () => {
    const farm = new TestFarm();
    for (const agent of ["attic", "cellar", "pi"]) farm.uploadAgent(agent);
    farm.submit(uploadRequest(1));
    const tried: (string | undefined)[] = [];
    for (let tries = 0; tries < 3; tries += 1) {
      tried.push(farm.job(1, "upload").assigned?.agent);
      farm.claim(1, "upload");
      farm.report(1, "upload", unreachable);
    }
    expect(new Set(tried)).toEqual(new Set(["attic", "cellar", "pi"]));
    expect(farm.job(1, "upload")).toMatchObject({ state: "queued", avoid: [] });
    expect(farm.job(1, "upload").notBeforeAt).toBeGreaterThan(farm.at);
  });

  test("fails when all have tried as often as one would", () => {
    const farm = new TestFarm();
    farm.submit(uploadRequest(1));
    let tries = 0;
    while (farm.job(1, "upload").state !== "failed") {
      if (farm.job(1, "upload").state === "queued") farm.at += 60_000;
      for (const agent of ["attic", "pi"]) farm.uploadAgent(agent);
      farm.claim(1, "upload");
      farm.report(1, "upload", unreachable);
      tries += 1;
    }
    expect(tries).toBe(6);
  });

  test("goes first to the agent that flashed it last", () => {
    const farm = new TestFarm();
    farm.uploadAgent("attic", { idleSince: 0 });
    farm.uploadAgent("pi");
    const record = { v: 1 as const, configuration: configurationNamed("device 1"), chain: chainNumber(9), at: 0 };
    const known = { ...record, state: "succeeded", address: "?", agent: agentNamed("pi") };
    farm.farm = { ...farm.farm, knowledge: { ...noKnowledge, devices: new Map([[record.configuration, known]]) } };
    farm.submit(uploadRequest(1));
    expect(farm.job(1, "upload").assigned?.agent).toBe("pi");
  });
});

describe("a device on hold", () => {
  const configuration = configurationNamed("device 1");
  const note = { v: 1 as const, configuration, at: 0, isHeld: true, reason: "feeds the fish" };

  test("is flashed by no bulk, and by whoever names it", () => {
    const farm = new TestFarm();
    farm.farm = { ...farm.farm, knowledge: { ...noKnowledge, notes: new Map([[configuration, note]]) } };
    const refused = farm.submit({ ...uploadRequest(2), isBulk: true }, { ...uploadRequest(1), isBulk: true });
    expect(refused).toMatchObject({ kind: "refused", code: "on-hold" });
    expect(refused.kind === "refused" && refused.message).toContain("feeds the fish");
    expect(farm.farm.chains.size).toBe(0);
    expect(farm.submit(uploadRequest(1))).toMatchObject({ kind: "accepted" });
  });
});

describe("a flash over a port", () => {
  const port = PortId.parse("usb-cp2102-1");
  const other = PortId.parse("usb-cp2102-2");
  const target = (id: PortId) => ({
    kind: "serial" as const,
    port: id,
    tool: { kind: "esptool" as const, chip: "esp32" as const },
    name: "lamp",
  });
  const agentWith = (name: string, ...ids: readonly PortId[]) => ({
    ...statementOf(name, "upload", { slots: 4 }),
    upload: { ports: ids.map((id) => ({ id, path: "/dev/ttyUSB0" })), flashers: [] },
  });

  test("goes to the agent that has the port, and waits for one that does", () => {
    const farm = new TestFarm();
    farm.uploadAgent("attic");
    farm.submit(uploadWith(1, { target: target(port) }));
    expect(farm.job(1, "upload").state).toBe("queued");
    expect(explain(farm.farm, chainNumber(1), farm.at).join("\n")).toContain(`attic has no port ${port}`);
    farm.announce(agentWith("pi", port));
    expect(farm.job(1, "upload").assigned?.agent).toBe("pi");
  });

  test("has its port to itself: three installs to one run one after the other, another port at the same time", () => {
    const farm = new TestFarm();
    farm.announce(agentWith("pi", port, other));
    farm.submit(
      ...[1, 2, 3].map((n) => uploadWith(n, { target: target(port) })),
      uploadWith(4, { target: target(other) }),
    );
    const inHand = () => [1, 2, 3, 4].filter((n) => farm.job(n, "upload").state === "dispatched");
    expect(inHand()).toEqual([1, 4]);
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.report(1, "upload", flashed);
    expect(inHand()).toEqual([2, 4]);
  });

  test("that has begun is cancelled by force only, and its device then needs another flash", () => {
    const farm = new TestFarm();
    farm.announce(agentWith("pi", port));
    farm.submit(uploadWith(1, { target: target(port) }));
    farm.claim(1, "upload");
    farm.claimFlash(1);
    expect(farm.cancel(1)).toEqual({ jobs: [], tooLate: ["upload"] });
    const of = { kind: "chain" as const, chain: chainNumber(1) };
    farm.send({ kind: "cancel-asked", of, isForced: true, answerTo: 5 });
    expect(farm.job(1, "upload").state).toBe("cancelling");
    expect(farm.last.effects).toContainEqual(expect.objectContaining({ kind: "stop", agent: "pi", isForced: true }));
    farm.report(1, "upload", failedWith(failures.cutAtPort));
    expect(farm.job(1, "upload")).toMatchObject({ state: "failed", outcome: { failure: { effect: "partial" } } });
  });
});
