/** What excludes each other: two requests for one configuration, two flashes of one device, two builds in one tree. */
import { describe, expect, test } from "vitest";
import {
  buildRequest,
  built,
  chainNumber,
  flashed,
  installRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

function farmWithAgents(slots = 4): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("bench", { slots });
  farm.uploadAgent("pi", { slots });
  return farm;
}

const kitchen = { configuration: "kitchen" };

describe("a new request for a configuration supersedes the older one", () => {
  test("that is queued: it is cancelled, and the answer says so", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1, kitchen));
    expect(farm.submit(installRequest(2, kitchen))).toEqual({
      kind: "accepted",
      chains: [chainNumber(2)],
      superseded: [chainNumber(1)],
    });
    expect(farm.states(1)).toBe("cancelled, cancelled");
    expect(farm.job(1, "compile").outcome).toEqual({ kind: "cancelled", cause: "superseded" });
    expect(farm.states(2)).toBe("queued, held");
  });

  test("that is building: it is stopped, and the new build waits for the proof of its death", () => {
    const farm = farmWithAgents();
    farm.submit(installRequest(1, kitchen));
    farm.claim(1, "compile");
    farm.submit(installRequest(2, kitchen));
    expect(farm.states(1)).toBe("cancelling, cancelled");
    expect(farm.effects("stop")).toHaveLength(1);
    expect(farm.states(2)).toBe("queued, held");
    farm.report(1, "compile", { kind: "stopped" });
    expect(farm.states(2)).toBe("dispatched, held");
  });

  test("whose upload is held while the other half is done: the upload never flashes", () => {
    const farm = farmWithAgents();
    farm.submit(installRequest(1, kitchen));
    farm.bringToUpload(1);
    farm.submit(installRequest(2, kitchen));
    expect(farm.states(1)).toBe("succeeded, cancelling");
    expect(farm.claimFlash(1)).toBe("drop");
  });

  test("that is flashing: the flash finishes first, the new build goes ahead, and the new upload waits", () => {
    const farm = farmWithAgents();
    farm.submit(installRequest(1, kitchen));
    farm.bringToUpload(1);
    farm.claimFlash(1);
    expect(farm.submit(installRequest(2, kitchen))).toMatchObject({ superseded: [] });
    expect(farm.states(1)).toBe("succeeded, running");
    farm.claim(2, "compile");
    farm.report(2, "compile", built());
    expect(farm.states(2)).toBe("succeeded, queued");
    farm.report(1, "upload", flashed);
    expect(farm.states(1)).toBe("succeeded, succeeded");
    expect(farm.states(2)).toBe("succeeded, dispatched");
  });

  test("that has ended: that is no error, and it stays as it is", () => {
    const farm = farmWithAgents();
    farm.submit(buildRequest(1, kitchen));
    farm.claim(1, "compile");
    farm.report(1, "compile", built());
    expect(farm.submit(installRequest(2, kitchen))).toMatchObject({ superseded: [] });
    expect(farm.states(1)).toBe("succeeded");
  });

  test("in the same bulk request: the later one of two wins", () => {
    const farm = new TestFarm();
    expect(farm.submit(installRequest(1, kitchen), installRequest(2, kitchen))).toMatchObject({
      superseded: [chainNumber(1)],
    });
    expect(farm.states(1)).toBe("cancelled, cancelled");
    expect(farm.states(2)).toBe("queued, held");
  });

  test("and no chain of another configuration", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1, kitchen));
    expect(farm.submit(installRequest(2, { configuration: "cellar" }))).toMatchObject({ superseded: [] });
    expect(farm.states(1)).toBe("queued, held");
  });
});

describe("one device", () => {
  test("two configurations with one device address never flash at once", () => {
    const farm = farmWithAgents();
    farm.submit(
      uploadRequest(1, { configuration: "old name", host: "10.0.0.7" }),
      uploadRequest(2, { configuration: "new name", host: "10.0.0.7" }),
    );
    expect(farm.states(1)).toBe("dispatched");
    expect(farm.states(2)).toBe("queued");
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.report(1, "upload", flashed);
    expect(farm.states(2)).toBe("dispatched");
  });

  test("an address is the same device whatever its case", () => {
    const farm = farmWithAgents();
    farm.submit(uploadRequest(1, { host: "Kitchen.local" }), uploadRequest(2, { host: "kitchen.LOCAL" }));
    expect(farm.states(2)).toBe("queued");
  });

  test("a cancelled upload keeps its device until it is dead", () => {
    const farm = farmWithAgents();
    farm.submit(uploadRequest(1, { host: "10.0.0.7" }), uploadRequest(2, { host: "10.0.0.7" }));
    farm.claim(1, "upload");
    farm.cancel(1);
    expect(farm.states(2)).toBe("queued");
    farm.report(1, "upload", { kind: "stopped" });
    expect(farm.states(2)).toBe("dispatched");
  });

  test("a device whose flash was lost is taken until it has been asked", () => {
    const farm = farmWithAgents();
    farm.uploadAgent("spare");
    farm.submit(uploadRequest(1, { host: "10.0.0.7" }), uploadRequest(2, { host: "10.0.0.7" }));
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.vanish("pi");
    expect(farm.states(1)).toBe("queued");
    expect(farm.states(2)).toBe("queued");
    farm.pass(200_000);
    expect(farm.states(1)).toBe("dispatched");
    expect(farm.states(2)).toBe("queued");
    farm.claim(1, "upload");
    farm.report(1, "upload", flashed);
    expect(farm.states(2)).toBe("dispatched");
  });

  test("a dispatched upload that is cancelled frees its device at once", () => {
    const farm = farmWithAgents();
    farm.submit(uploadRequest(1, { host: "10.0.0.7" }), uploadRequest(2, { host: "10.0.0.7" }));
    farm.cancel(1);
    expect(farm.states(2)).toBe("dispatched");
  });
});
