/** What goes first, and where it goes: priorities, measured durations, scarce media, labels, pins, drained agents. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { Label } from "#protocol/ids.ts";
import type { Medium } from "#protocol/job.ts";
import type { DurationRecord } from "#protocol/records.ts";
import { learnFrom } from "#coordinator/core/durations.ts";
import { explain } from "#coordinator/core/explain.ts";
import { type Knowledge, noKnowledge } from "#coordinator/core/knowledge.ts";
import { SortedIds } from "#coordinator/core/sorted-ids.ts";
import {
  agentNamed,
  buildRequest,
  built,
  chainNumber,
  configurationNamed,
  flashed,
  installRequest,
  overMedium,
  statementOf,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** A farm that has built `device n` in so many seconds before, in this order. */
function farmThatKnows(seconds: Readonly<Record<number, number>>, more: Partial<Knowledge> = {}): TestFarm {
  const farm = new TestFarm();
  const durations = Object.entries(seconds).map(([n, s]): [DurationRecord["configuration"], DurationRecord] => {
    const configuration = configurationNamed(`device ${n}`);
    const estimate = { ms: s * 1_000, count: 1 };
    return [
      configuration,
      { v: 1, configuration, at: 0, platform: "esp32", cold: estimate, warm: estimate, uploads: {} },
    ];
  });
  farm.farm = { ...farm.farm, knowledge: { ...noKnowledge, durations: new Map(durations), ...more } };
  return farm;
}

/** Lets one builder with one slot build everything. @returns the numbers of the chains in the order in which they were built */
function builtInTurn(farm: TestFarm, count: number): readonly number[] {
  farm.compileAgent("builder");
  const order: number[] = [];
  for (let turn = 0; turn < count; turn += 1) {
    const dispatch = farm.effects("dispatch").find(({ job }) => job === "compile");
    const n = Array.from({ length: 40 }, (_, index) => index + 1).find((one) => chainNumber(one) === dispatch?.chain);
    if (n === undefined) break;
    order.push(n);
    farm.claim(n, "compile");
    farm.report(n, "compile", built(`build ${n}`));
  }
  return order;
}

const onMedium = (request: ChainRequest, medium: Medium): ChainRequest =>
  request.upload === undefined
    ? request
    : { ...request, upload: { ...request.upload, target: overMedium(request.upload.target, medium) } };

describe("the order of the queue", () => {
  test("of a bulk the shortest build goes first", () => {
    const farm = farmThatKnows({ 1: 50, 2: 10, 3: 30 });
    farm.submit(buildRequest(1), buildRequest(2), buildRequest(3));
    expect(builtInTurn(farm, 3)).toEqual([2, 3, 1]);
  });

  test("an urgent request goes before an interactive one, and that before a bulk", () => {
    const farm = farmThatKnows({});
    farm.submit({ ...buildRequest(1), priority: "bulk" });
    farm.submit(buildRequest(2));
    farm.submit({ ...buildRequest(3), priority: "urgent" });
    expect(builtInTurn(farm, 3)).toEqual([3, 2, 1]);
  });

  test("nothing starves: a long build of a bulk goes before short ones that come an hour and more later", () => {
    const farm = farmThatKnows({ 1: 180, 2: 1, 3: 1 });
    farm.submit({ ...buildRequest(1), priority: "bulk" });
    farm.at += 60 * 60_000;
    farm.submit(buildRequest(2));
    farm.at += 2 * 60 * 60_000;
    farm.submit(buildRequest(3));
    expect(builtInTurn(farm, 3)).toEqual([2, 1, 3]);
  });

  test("whatever is asked for in whatever order of messages, it is built in the same order", () => {
    const seconds = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 2, maxLength: 6 });
    fc.assert(
      fc.property(seconds, fc.infiniteStream(fc.nat()), (lengths, random) => {
        const known = Object.fromEntries(lengths.map((s, index) => [index + 1, s]));
        const requests = lengths.map((_, index) => buildRequest(index + 1));
        const shuffled = requests
          .map((request) => ({ request, at: random.next().value }))
          .toSorted((a, b) => a.at - b.at)
          .map(({ request }) => request);
        const [one, other] = [farmThatKnows(known), farmThatKnows(known)];
        one.submit(...requests);
        for (const request of shuffled) other.submit(request);
        expect(builtInTurn(other, lengths.length)).toEqual(builtInTurn(one, lengths.length));
      }),
      { numRuns: 50 },
    );
  });
});

describe("scarce media", () => {
  const hall: Medium = { kind: "thread", segment: "hall" };

  test("the next build for a border router goes ahead of shorter ones, and its others go behind", () => {
    const farm = farmThatKnows({ 1: 5, 2: 60, 3: 50, 4: 40, 5: 30 });
    const slow = [3, 4, 5].map((n) => onMedium(installRequest(n), hall));
    farm.submit(buildRequest(1), buildRequest(2), ...slow);
    expect(builtInTurn(farm, 5)).toEqual([5, 1, 2, 4, 3]);
  });

  test("a border router is fed again before its air is free", () => {
    const farm = farmThatKnows({ 1: 100, 2: 110, 3: 150, 4: 160 });
    farm.uploadAgent("pi");
    farm.submit(...[1, 2].map((n) => onMedium(installRequest(n), hall)), buildRequest(3), buildRequest(4));
    farm.compileAgent("builder");
    farm.bringToUpload(1);
    expect([2, 3].map((n) => farm.job(n, "compile").state)).toEqual(["queued", "dispatched"]);
    farm.at += 350_000;
    farm.claim(3, "compile");
    farm.report(3, "compile", built("build 3"));
    expect([2, 4].map((n) => farm.job(n, "compile").state)).toEqual(["dispatched", "queued"]);
  });

  test("what waits for its time leaves the air free: another build goes ahead", () => {
    const farm = farmThatKnows({ 1: 40, 2: 50, 3: 10 });
    farm.uploadAgent("pi");
    farm.submit(...[1, 2].map((n) => onMedium(installRequest(n), hall)), buildRequest(3));
    farm.compileAgent("builder");
    farm.bringToUpload(1);
    const failure = { kind: "device-unreachable", address: "device", detail: "no answer" } as const;
    farm.report(1, "upload", { kind: "failed", failure });
    farm.claim(3, "compile");
    farm.submit(buildRequest(4));
    farm.report(3, "compile", built("build 3"));
    expect([2, 4].map((n) => farm.job(n, "compile").state)).toEqual(["dispatched", "queued"]);
  });

  test("what goes behind is not passed by what is less urgent", () => {
    const farm = farmThatKnows({ 1: 10, 2: 100, 3: 5 });
    const slow = [1, 2].map((n) => onMedium(installRequest(n), hall));
    farm.submit(...slow, { ...buildRequest(3), priority: "bulk" });
    expect(builtInTurn(farm, 3)).toEqual([1, 2, 3]);
  });

  test("one flash at a time goes over a border router, however many agents and devices there are", () => {
    const farm = farmThatKnows({});
    farm.uploadAgent("pi", { slots: 4 });
    farm.compileAgent("builder", { slots: 4 });
    const attic: Medium = { kind: "thread", segment: "attic" };
    farm.submit(...[1, 2].map((n) => onMedium(installRequest(n), hall)), onMedium(installRequest(3), attic));
    for (const n of [1, 2, 3]) {
      farm.claim(n, "compile");
      farm.report(n, "compile", built(`build ${n}`));
    }
    expect([1, 2, 3].map((n) => farm.upload(n).state)).toEqual(["dispatched", "queued", "dispatched"]);
    expect(explain(farm.farm, chainNumber(2), farm.at)).toContain(
      "  another upload is on thread:hall, which carries one at a time",
    );
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.report(1, "upload", flashed);
    expect(farm.upload(2).state).toBe("dispatched");
  });

  test("explain says that a build goes ahead, and why", () => {
    const farm = farmThatKnows({ 1: 5, 2: 60 });
    farm.submit(buildRequest(1), onMedium(installRequest(2), hall));
    expect(explain(farm.farm, chainNumber(2), farm.at)).toContain("  goes ahead: thread:hall must not run dry");
  });
});

describe("who may take a job", () => {
  const fast = Label.parse("fast");

  test("an agent that carries every label of the request, and no other", () => {
    const farm = farmThatKnows({});
    farm.compileAgent("slow");
    farm.submit({ ...buildRequest(1), route: { labels: [fast] } });
    expect(explain(farm.farm, chainNumber(1), farm.at)).toContain("  slow does not carry fast");
    farm.announce({ ...statementOf("racer", "compile"), labels: [fast, Label.parse("attic")] });
    expect(farm.job(1, "compile").assigned?.agent).toBe("racer");
  });

  test("the agent that was named", () => {
    const farm = farmThatKnows({});
    farm.compileAgent("a");
    farm.submit({ ...buildRequest(1), route: { on: agentNamed("b"), labels: [] } });
    expect(farm.states(1)).toBe("queued");
    farm.compileAgent("b");
    expect(farm.job(1, "compile").assigned?.agent).toBe("b");
  });

  test("an agent that is pinned to other versions or platforms does not", () => {
    const farm = farmThatKnows({});
    const pinned = (name: string, pins: object) => {
      const statement = statementOf(name, "compile");
      farm.announce({ ...statement, compile: { ...statement.compile!, ...pins } });
    };
    pinned("old", { pinnedVersions: ["2025.1.0"] });
    pinned("host-only", { pinnedPlatforms: ["host"] });
    const request = buildRequest(1);
    farm.submit({
      ...request,
      build: { ...request.build!, driver: "esphome", platform: "esp32" } as ChainRequest["build"],
    });
    const lines = explain(farm.farm, chainNumber(1), farm.at);
    expect(lines).toContain("  old builds with ESPHome 2025.1.0 only");
    expect(lines).toContain("  host-only builds for host only");
    pinned("fitting", { pinnedVersions: ["2026.10.0"], pinnedPlatforms: ["esp32"] });
    expect(farm.job(1, "compile").assigned?.agent).toBe("fitting");
  });

  test("an agent whose sandbox is weaker than asked for does not, nor one that states none or an unknown one", () => {
    const farm = farmThatKnows({});
    const sandboxed = (name: string, sandbox?: string) => {
      const { compile, ...statement } = statementOf(name, "compile");
      farm.announce({ ...statement, compile: { ...compile!, ...(sandbox === undefined ? {} : { sandbox }) } });
    };
    sandboxed("open");
    sandboxed("apart", "user");
    sandboxed("newer", "vault");
    farm.submit({ ...buildRequest(1), route: { labels: [], sandbox: "bubblewrap" } });
    const lines = explain(farm.farm, chainNumber(1), farm.at);
    const needs = "the job needs a sandbox of level bubblewrap or stronger";
    expect(lines).toContain(`  open builds in a sandbox of level none: ${needs}`);
    expect(lines).toContain(`  apart builds in a sandbox of level user: ${needs}`);
    expect(lines).toContain(`  newer builds in a sandbox of level vault: ${needs}`);
    sandboxed("kept", "bubblewrap");
    expect(farm.job(1, "compile").assigned?.agent).toBe("kept");
    farm.submit({ ...buildRequest(2), route: { labels: [], sandbox: "none" } });
    expect(farm.states(2)).toBe("dispatched");
  });

  test("a drained agent does not, but its trees can be taken away", () => {
    const farm = farmThatKnows({}, { drained: new Set([agentNamed("a")]) });
    farm.compileAgent("a", { warm: ["lamp"] });
    farm.submit(buildRequest(1));
    expect(farm.states(1)).toBe("queued");
    farm.clean(2, "lamp");
    expect(farm.states(2)).toBe("dispatched");
  });

  test("an agent has room again when its build gives the slot back, and as often as it has slots", () => {
    const farm = farmThatKnows({});
    farm.compileAgent("builder");
    farm.submit(buildRequest(1), buildRequest(2), buildRequest(3));
    farm.claim(1, "compile");
    const storing = (n: number) => ({ chain: chainNumber(n), job: "compile" as const, attempt: 1, isStoring: true });
    farm.compileAgent("builder", { holding: [storing(1)] });
    expect([1, 2, 3].map((n) => farm.states(n))).toEqual(["running", "dispatched", "queued"]);
    farm.claim(2, "compile");
    farm.compileAgent("builder", { holding: [storing(1), storing(2)] });
    expect(farm.states(3)).toBe("queued");
    farm.report(1, "compile", built());
    expect(farm.states(3)).toBe("dispatched");
  });
});

describe("what is learned", () => {
  function ended(n: number, isWarm: boolean, buildMs: number): Chain {
    const farm = farmThatKnows({});
    farm.compileAgent("builder");
    farm.submit(buildRequest(n));
    farm.claim(n, "compile");
    const result = built();
    farm.report(n, "compile", { ...result, buildMs, isWarm } as typeof result);
    return farm.chain(n);
  }

  test("cold and warm builds apart, the newest counting most", () => {
    const first = learnFrom(undefined, ended(1, false, 60_000));
    expect(first).toMatchObject({ cold: { ms: 60_000, count: 1 }, uploads: {} });
    expect(first?.warm).toBeUndefined();
    const second = learnFrom(first, ended(1, true, 2_000));
    expect(second).toMatchObject({ cold: { ms: 60_000 }, warm: { ms: 2_000, count: 1 } });
    const third = learnFrom(learnFrom(second, ended(1, true, 4_000)), ended(1, true, 4_000));
    expect(third?.warm).toMatchObject({ count: 3 });
    expect(third?.warm?.ms).toBeCloseTo(3_333, -1);
  });

  test("a configuration that was never built is taken to be like others of its platform", () => {
    const farm = farmThatKnows({ 1: 40, 2: 60 });
    const request = buildRequest(3);
    farm.submit({ ...request, build: { ...request.build!, platform: "esp32" } as ChainRequest["build"] });
    expect(explain(farm.farm, chainNumber(3), farm.at)[1]).toContain(
      "expected to take about 50 s where its tree is warm, about 50 s elsewhere",
    );
  });
});

test("sorted ids are in the order of their numbers, whatever comes and goes", () => {
  const step = fc.record({ n: fc.integer({ min: 1, max: 12 }), key: fc.option(fc.integer({ min: 0, max: 4 })) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const sorted = new SortedIds();
      const model = new Map<number, number>();
      for (const { n, key } of steps) {
        if (key === null) {
          sorted.remove(chainNumber(n));
          model.delete(n);
        } else {
          sorted.put(chainNumber(n), key);
          model.set(n, key);
        }
      }
      const expected = [...model].toSorted(([a, x], [b, y]) => x - y || a - b).map(([n]) => chainNumber(n));
      expect([...sorted.ids()]).toEqual(expected);
      expect(sorted.size).toBe(model.size);
    }),
  );
});
