/** Which job goes where: the oldest idle lane that can do it, and the oldest chain first. */
import { describe, expect, test } from "vitest";
import {
  agentNamed,
  buildRequest,
  built,
  chainNumber,
  configurationNamed,
  flashed,
  installRequest,
  startAt,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { explain } from "#coordinator/core/explain.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import { TestFarm } from "#test/support/test-farm.ts";

describe("who gets a job", () => {
  test("the lane that has been idle longest", () => {
    const farm = new TestFarm();
    farm.compileAgent("young", { idleSince: startAt + 10 });
    farm.compileAgent("old", { idleSince: startAt + 5 });
    farm.submit(buildRequest(1));
    expect(farm.job(1, "compile").assigned?.agent).toBe("old");
  });

  test("of two that are equally idle the first by name, so that the choice is always the same", () => {
    const farm = new TestFarm();
    farm.compileAgent("b");
    farm.compileAgent("a");
    farm.submit(buildRequest(1));
    expect(farm.job(1, "compile").assigned?.agent).toBe("a");
  });

  test("a slot that the records have just freed counts as idle from then on, whatever its agent last said", () => {
    const farm = new TestFarm();
    farm.compileAgent("first", { idleSince: startAt });
    farm.submit(buildRequest(1));
    farm.compileAgent("second", { idleSince: startAt + 10 });
    farm.claim(1, "compile");
    farm.at += 20;
    farm.report(1, "compile", built());
    farm.submit(buildRequest(2));
    expect(farm.job(2, "compile").assigned?.agent).toBe("second");
  });

  test("an agent of the other lane never, however idle it is", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi", { slots: 8 });
    farm.submit(buildRequest(1));
    expect(farm.states(1)).toBe("queued");
  });

  test("a compile agent whose uploads are all busy: only the compile lane counts for compiles", () => {
    const farm = new TestFarm();
    farm.uploadAgent("box-upload");
    farm.compileAgent("box-compile");
    farm.submit(uploadRequest(1));
    farm.claim(1, "upload");
    farm.submit(buildRequest(2));
    expect(farm.job(2, "compile").assigned?.agent).toBe("box-compile");
  });

  test("no agent that is away, and an agent that came back again", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.vanish("bench");
    farm.submit(buildRequest(1));
    expect(farm.states(1)).toBe("queued");
    farm.compileAgent("bench");
    expect(farm.states(1)).toBe("dispatched");
  });

  test("the agent that the request names, and no other", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi-1");
    farm.submit(uploadRequest(1, { on: "pi-2" }));
    expect(farm.states(1)).toBe("queued");
    farm.uploadAgent("pi-2");
    expect(farm.job(1, "upload").assigned?.agent).toBe("pi-2");
  });

  test("an agent that has the wanted ESPHome version or makes it", () => {
    const farm = new TestFarm();
    farm.compileAgent("fixed", { makesEnvironments: false, esphomeVersions: ["2026.9.0"] });
    farm.submit(buildRequest(1, { version: "2026.10.0" }), buildRequest(2, { version: "2026.9.0" }));
    expect(farm.states(1)).toBe("queued");
    expect(farm.job(2, "compile").assigned?.agent).toBe("fixed");
    farm.compileAgent("maker", { makesEnvironments: true });
    expect(farm.job(1, "compile").assigned?.agent).toBe("maker");
  });
});

describe("where a build tree is warm", () => {
  test("the build goes there, however long another lane has been idle", () => {
    const farm = new TestFarm();
    farm.compileAgent("idle", { idleSince: startAt, warm: ["fan"] });
    farm.compileAgent("warm", { idleSince: startAt + 10, warm: ["lamp"] });
    farm.submit(buildRequest(1, { configuration: "lamp" }));
    expect(farm.job(1, "compile").assigned?.agent).toBe("warm");
  });

  test("a build for another release of ESPHome finds it cold", () => {
    const farm = new TestFarm();
    farm.compileAgent("idle", { idleSince: startAt, slots: 2 });
    farm.compileAgent("warm", { idleSince: startAt + 10, warm: ["lamp"] });
    farm.submit(buildRequest(1, { configuration: "lamp", version: "2026.9.0" }));
    expect(farm.job(1, "compile").assigned?.agent).toBe("idle");
  });

  test("a build waits for a busy lane that has its tree while that is sooner done than a cold build, and lets others pass", () => {
    const farm = new TestFarm();
    const cold = { v: 1 as const, at: 0, platform: "host", cold: { ms: 10_000, count: 1 }, uploads: {} };
    const known = ["fan", "porch"].map((name) => configurationNamed(name));
    const durations = new Map(known.map((configuration) => [configuration, { ...cold, configuration }]));
    farm.farm = { ...farm.farm, knowledge: { ...noKnowledge, durations } };
    farm.compileAgent("idle", { idleSince: startAt, slots: 2 });
    farm.compileAgent("warm", { idleSince: startAt + 10, warm: ["fan", "porch"] });
    farm.submit(
      buildRequest(1, { configuration: "fan" }),
      buildRequest(2, { configuration: "porch" }),
      buildRequest(3),
    );
    expect(farm.job(1, "compile").assigned?.agent).toBe("warm");
    expect(farm.states(2)).toBe("queued");
    expect(explain(farm.farm, chainNumber(2), farm.at)).toContain(
      "  waits for warm, where its build tree is warm: cold elsewhere it takes about 10 s",
    );
    expect(farm.job(3, "compile").assigned?.agent).toBe("idle");
    // The build there takes longer than the three seconds that were expected.
    farm.pass(9_999);
    expect(farm.states(2)).toBe("queued");
    farm.pass(1);
    expect(farm.job(2, "compile").assigned?.agent).toBe("idle");
  });

  test("nobody waits for a warm lane that is away or takes no work", () => {
    const farm = new TestFarm();
    farm.compileAgent("idle", { idleSince: startAt });
    farm.compileAgent("warm", { warm: ["lamp"] });
    farm.vanish("warm");
    farm.submit(buildRequest(1, { configuration: "lamp" }));
    expect(farm.job(1, "compile").assigned?.agent).toBe("idle");
  });
});

describe("how many and in which order", () => {
  test("an agent gets as many jobs as it has slots, across all its announcements", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench", { slots: 2 });
    farm.submit(buildRequest(1), buildRequest(2), buildRequest(3));
    expect([1, 2, 3].map((n) => farm.states(n))).toEqual(["dispatched", "dispatched", "queued"]);
    farm.compileAgent("bench", { slots: 2 });
    expect(farm.states(3)).toBe("queued");
    farm.claim(1, "compile");
    farm.report(1, "compile", built());
    expect(farm.states(3)).toBe("dispatched");
  });

  test("an agent that is shut down announces no slots and gets nothing more", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(uploadRequest(1));
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.uploadAgent("pi", { slots: 0, holding: [{ chain: chainNumber(1), job: "upload", attempt: 1 }] });
    farm.submit(uploadRequest(2));
    farm.report(1, "upload", flashed);
    expect(farm.states(2)).toBe("queued");
  });

  test("the oldest chain first, by its id and not by when it was heard", () => {
    const farm = new TestFarm();
    farm.submit(buildRequest(2));
    farm.submit(buildRequest(1));
    farm.compileAgent("bench");
    expect(farm.states(1)).toBe("dispatched");
    expect(farm.states(2)).toBe("queued");
  });

  test("a job that finds no agent holds up nobody behind it", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi-1");
    farm.submit(uploadRequest(1, { on: "pi-2" }), uploadRequest(2));
    expect(farm.states(2)).toBe("dispatched");
  });

  test("held jobs take no slot", () => {
    const farm = new TestFarm();
    farm.uploadAgent("pi");
    farm.submit(installRequest(1), uploadRequest(2));
    expect(farm.states(1)).toBe("queued, held");
    expect(farm.states(2)).toBe("dispatched");
  });

  test("a dispatch counts the attempt, names the boot, and is the only word to the agent", () => {
    const farm = new TestFarm();
    farm.submit(buildRequest(1));
    farm.compileAgent("bench", { boot: 3 });
    expect(farm.job(1, "compile")).toMatchObject({
      attempt: 1,
      assigned: { agent: "bench", boot: "boot0003" },
      dispatchedAt: startAt,
    });
    expect(farm.last.effects).toEqual([
      { kind: "dispatch", agent: agentNamed("bench"), chain: chainNumber(1), job: "compile", attempt: 1 },
    ]);
  });

  test("the record of an ended job is written before that of the job which got its place", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.uploadAgent("pi");
    farm.submit(installRequest(2));
    farm.claim(2, "compile");
    farm.submit(buildRequest(1));
    farm.report(2, "compile", built());
    expect(farm.states(1)).toBe("dispatched");
    expect(farm.states(2)).toBe("succeeded, dispatched");
    expect([...farm.last.changed.keys()]).toEqual([chainNumber(2), chainNumber(1)]);
  });
});
