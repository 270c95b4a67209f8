/** Renames: a build under the new name, a flash at the old address, and both names locked until it is over. */
import { describe, expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import {
  built,
  chainNumber,
  configurationNamed,
  flashed,
  installRequest,
  renameRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** `lamp` becomes `kitchen`; the device is at its old address, and will be at another. */
function lampBecomesKitchen(n: number): ChainRequest {
  const request = renameRequest(n, { configuration: "kitchen", renamed: "lamp", host: "lamp.local" });
  const target = { ...request.upload!.target, hostAfter: "kitchen.local", formerName: "lamp" };
  return { ...request, upload: { ...request.upload, target } };
}

function farmWithAgents(): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("bench", { slots: 4 });
  farm.uploadAgent("pi", { slots: 4 });
  return farm;
}

describe("a rename", () => {
  test("builds under the new name and flashes the old address", () => {
    const farm = farmWithAgents();
    farm.submit(lampBecomesKitchen(1));
    farm.bringToUpload(1);
    expect(farm.chain(1)).toMatchObject({ kind: "rename", configuration: "kitchen", renamedFrom: "lamp" });
    expect(farm.upload(1).spec.target).toMatchObject({ host: "lamp.local", hostAfter: "kitchen.local" });
  });

  test.each(["lamp", "kitchen"])("during a queued install of %s supersedes it", (configuration) => {
    const farm = new TestFarm();
    farm.submit(installRequest(1, { configuration }));
    expect(farm.submit(lampBecomesKitchen(2))).toMatchObject({ superseded: [chainNumber(1)] });
    expect(farm.states(1)).toBe("cancelled, cancelled");
  });

  test.each(["lamp", "kitchen"])("that is queued gives way to an install of %s", (configuration) => {
    const farm = new TestFarm();
    farm.submit(lampBecomesKitchen(1));
    expect(farm.submit(installRequest(2, { configuration }))).toMatchObject({ superseded: [chainNumber(1)] });
    expect(farm.states(1)).toBe("cancelled, cancelled");
  });

  test.each(["lamp", "kitchen"])("that is building keeps the tree of %s until it is dead", (configuration) => {
    const farm = farmWithAgents();
    farm.submit(lampBecomesKitchen(1));
    farm.claim(1, "compile");
    farm.submit(installRequest(2, { configuration }));
    expect([farm.states(1), farm.states(2)]).toEqual(["cancelling, cancelled", "queued, held"]);
    farm.report(1, "compile", { kind: "stopped" });
    expect(farm.states(2)).toBe("dispatched, held");
  });

  test.each(["lamp.local", "kitchen.local"])("that is flashing keeps others from %s until it is over", (host) => {
    const farm = farmWithAgents();
    farm.submit(lampBecomesKitchen(1));
    farm.bringToUpload(1);
    farm.claimFlash(1);
    farm.submit(uploadRequest(2, { configuration: "another", host }));
    expect(farm.states(2)).toBe("queued");
    farm.report(1, "upload", flashed);
    expect(farm.states(2)).toBe("dispatched");
  });

  test("that is flashing ends before an install of either name flashes, though that is built meanwhile", () => {
    const farm = farmWithAgents();
    farm.submit(lampBecomesKitchen(1));
    farm.bringToUpload(1);
    farm.claimFlash(1);
    farm.submit(installRequest(2, { configuration: "kitchen", host: "kitchen.local" }));
    farm.claim(2, "compile");
    farm.report(2, "compile", built());
    expect([farm.states(1), farm.states(2)]).toEqual(["succeeded, running", "succeeded, queued"]);
  });

  test("is cancelled, cleaned and gated by either name", () => {
    const farm = farmWithAgents();
    farm.submit(lampBecomesKitchen(1));
    expect(farm.cancelConfiguration("lamp")).toMatchObject({ chains: [{ chain: chainNumber(1) }] });
    farm.compileAgent("bench", { slots: 4, warm: ["lamp"] });
    farm.clean(2, "lamp");
    farm.submit(lampBecomesKitchen(3));
    expect(farm.states(3)).toBe("queued, held");
  });

  test("needs two names, and nothing else has two", () => {
    const farm = new TestFarm();
    const { renamedFrom: _name, ...nameless } = lampBecomesKitchen(1);
    const same = { ...lampBecomesKitchen(2), renamedFrom: configurationNamed("kitchen") };
    const install = { ...installRequest(3), renamedFrom: configurationNamed("lamp") };
    for (const request of [nameless, same, install]) {
      expect(farm.submit(request)).toMatchObject({ kind: "refused", code: "chain-incomplete" });
    }
    expect(farm.farm.chains.size).toBe(0);
  });
});
