/** Builds divided among machines: all end at about the same time, short ones first, and nobody is starved by that. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import type { Priority } from "#protocol/chain.ts";
import type { AgentId, ChainId } from "#protocol/ids.ts";
import type { Medium } from "#protocol/job.ts";
import type { DurationRecord } from "#protocol/records.ts";
import { explain } from "#coordinator/core/explain.ts";
import { noKnowledge } from "#coordinator/core/knowledge.ts";
import type { Transition } from "#coordinator/core/transition.ts";
import {
  buildRequest,
  built,
  chainNumber,
  configurationNamed,
  installRequest,
  overMedium,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** A farm in which `device n` takes so many seconds to build cold, and two in its tree. */
function farmThatKnows(coldSeconds: readonly number[]): TestFarm {
  const farm = new TestFarm();
  const durations = coldSeconds.map((s, index): [DurationRecord["configuration"], DurationRecord] => {
    const configuration = configurationNamed(`device ${index + 1}`);
    const [cold, warm] = [
      { ms: s * 1_000, count: 1 },
      { ms: 2_000, count: 1 },
    ];
    return [configuration, { v: 1, configuration, at: 0, platform: "esp32", cold, warm, uploads: {} }];
  });
  farm.farm = { ...farm.farm, knowledge: { ...noKnowledge, durations: new Map(durations) } };
  return farm;
}

const numbered = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index + 1);
const devices = (...numbers: readonly number[]): readonly string[] => numbers.map((n) => `device ${n}`);

/** Machines that take as long as is known, and everything that they have begun. */
class Machines {
  readonly begun: { readonly n: number; readonly agent: AgentId; readonly at: number }[] = [];
  readonly #farm: TestFarm;
  readonly #lengthsMs: (n: number, agent: AgentId) => number;
  readonly #ends: { readonly n: number; readonly at: number }[] = [];

  constructor(farm: TestFarm, lengthsMs: (n: number, agent: AgentId) => number) {
    this.#farm = farm;
    this.#lengthsMs = lengthsMs;
  }

  /** Takes what the newest step has dispatched. */
  take({ effects }: Transition): void {
    for (const effect of effects) {
      if (effect.kind !== "dispatch" || effect.job !== "compile") continue;
      const n = numberOf(effect.chain);
      this.begun.push({ n, agent: effect.agent, at: this.#farm.at });
      this.#ends.push({ n, at: this.#farm.at + this.#lengthsMs(n, effect.agent) });
      this.#farm.claim(n, "compile");
    }
  }

  /** Lets every build end that ends by then. */
  runUntil(at: number): void {
    for (;;) {
      this.#ends.sort((a, b) => b.at - a.at);
      const next = this.#ends.at(-1);
      if (next === undefined || next.at > at) break;
      this.#ends.pop();
      this.#farm.at = Math.max(this.#farm.at, next.at);
      this.#farm.report(next.n, "compile", built(`build ${next.n}`));
      this.take(this.#farm.last);
    }
    if (Number.isFinite(at)) this.#farm.at = Math.max(this.#farm.at, at);
  }
}

const numbers = new Map<ChainId, number>(numbered(31).map((n) => [chainNumber(n), n]));

function numberOf(chain: ChainId): number {
  const n = numbers.get(chain);
  if (n === undefined) throw new Error(`no number is known for ${chain}`);
  return n;
}

describe("a bulk", () => {
  test("ends at the same time on all machines, and on each of them the short builds go first", () => {
    const seconds = [100, 10, 60, 20, 30];
    const farm = farmThatKnows(seconds);
    farm.compileAgent("a");
    farm.compileAgent("b");
    const machines = new Machines(farm, (n) => seconds[n - 1]! * 1_000);
    const { at } = farm;
    farm.submit(...numbered(5).map((n) => buildRequest(n)));
    machines.take(farm.last);
    machines.runUntil(Number.POSITIVE_INFINITY);
    expect(machines.begun.map(({ n }) => n)).toEqual([2, 4, 1, 5, 3]);
    expect(farm.at - at).toBe(110_000);
  });

  test("after an update that has left no tree, the builds are in the order of their cold lengths", () => {
    const seconds = [50, 10, 30];
    const farm = farmThatKnows(seconds);
    farm.submit(...numbered(3).map((n) => buildRequest(n)));
    const machines = new Machines(farm, (n) => seconds[n - 1]! * 1_000);
    machines.take(farm.compileAgent("a"));
    machines.runUntil(Number.POSITIVE_INFINITY);
    expect(machines.begun.map(({ n }) => n)).toEqual([2, 3, 1]);
  });

  test("a build that is cold everywhere leaves a machine to those that need its trees", () => {
    const farm = farmThatKnows([100, 100, 100, 100]);
    farm.compileAgent("old", { warm: devices(1, 2, 3) });
    farm.compileAgent("new");
    farm.submit(buildRequest(4), buildRequest(1), buildRequest(2), buildRequest(3));
    expect(farm.job(1, "compile").assigned?.agent).toBe("old");
    expect(farm.job(4, "compile").assigned?.agent).toBe("new");
    expect([2, 3].map((n) => farm.states(n))).toEqual(["queued", "queued"]);
    expect(explain(farm.farm, chainNumber(2), farm.at)).toContain(
      "  waits for old, where its build tree is warm: cold elsewhere it takes about 2 min",
    );
  });

  test("builds with trees on several machines go where the long ones have left time", () => {
    const seconds = [100, 100, 100];
    const farm = farmThatKnows(seconds);
    farm.compileAgent("a", { warm: devices(2, 3) });
    farm.compileAgent("b", { warm: devices(2, 3) });
    const machines = new Machines(farm, (n) => (n === 1 ? 100_000 : 2_000));
    const { at } = farm;
    farm.submit(...numbered(3).map((n) => buildRequest(n)));
    machines.take(farm.last);
    machines.runUntil(Number.POSITIVE_INFINITY);
    expect(machines.begun.map(({ n, agent }) => [n, agent])).toEqual([
      [1, "a"],
      [2, "b"],
      [3, "b"],
    ]);
    expect(farm.at - at).toBe(100_000);
  });

  test("what was meant for a machine that is gone is built elsewhere at once", () => {
    const farm = farmThatKnows([100, 100, 100]);
    farm.compileAgent("old", { warm: devices(1, 2, 3) });
    farm.compileAgent("new");
    farm.submit(buildRequest(1), buildRequest(2), buildRequest(3));
    expect(farm.states(2)).toBe("queued");
    farm.vanish("old");
    expect(numbered(3).flatMap((n) => farm.job(n, "compile").assigned?.agent ?? [])).toEqual(["new"]);
  });

  test("an agent that appears in the middle of it gets work at once", () => {
    const farm = farmThatKnows([100, 100, 100]);
    farm.compileAgent("a");
    farm.submit(...numbered(3).map((n) => buildRequest(n)));
    farm.compileAgent("b");
    expect(numbered(3).map((n) => farm.job(n, "compile").assigned?.agent)).toEqual(["a", "b", undefined]);
  });
});

describe("what is fed ahead", () => {
  const hall: Medium = { kind: "thread", segment: "hall" };
  const byThread = (n: number, priority: Priority): ChainRequest => {
    const request = installRequest(n);
    return request.upload === undefined
      ? request
      : { ...request, priority, upload: { ...request.upload, target: overMedium(request.upload.target, hall) } };
  };

  test("goes before its own priority and never before a more urgent one", () => {
    const seconds = [90, 10, 20];
    const farm = farmThatKnows(seconds);
    farm.submit(byThread(1, "bulk"), { ...buildRequest(2), priority: "bulk" }, buildRequest(3));
    const machines = new Machines(farm, (n) => seconds[n - 1]! * 1_000);
    machines.take(farm.compileAgent("a"));
    machines.runUntil(Number.POSITIVE_INFINITY);
    expect(machines.begun.map(({ n }) => n)).toEqual([3, 1, 2]);
  });

  test("passes nothing that has waited an hour longer", () => {
    const farm = farmThatKnows([90, 10]);
    farm.submit(buildRequest(2));
    farm.at += 60 * 60_000 + 1;
    farm.submit(byThread(1, "interactive"));
    farm.compileAgent("a");
    expect(farm.states(2)).toBe("dispatched");
  });
});

describe("whatever comes, and when", () => {
  const arrival = fc.record({
    coldSeconds: fc.integer({ min: 5, max: 180 }),
    afterMs: fc.integer({ min: 0, max: 40 * 60_000 }),
    priority: fc.constantFrom<Priority>("urgent", "interactive", "bulk"),
    isByThread: fc.boolean(),
    hasTree: fc.boolean(),
  });
  const arrivals = fc.array(arrival, { minLength: 1, maxLength: 30 });

  test("every job is placed, and none has to let pass what came more than nine hours after it", () => {
    // Five hours between the priorities, one for twenty times the longest build, one for what goes ahead, and the builds in hand.
    const passMsMax = 9 * 60 * 60_000;
    fc.assert(
      fc.property(
        arrivals,
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 400 }),
        (all, builders, slowness) => {
          const farm = farmThatKnows(all.map(({ coldSeconds }) => coldSeconds));
          // Slower than is known, so that queues grow.
          const machines = new Machines(farm, (n) => all[n - 1]!.coldSeconds * 10 * slowness);
          const warm = devices(...numbered(all.length).filter((n) => all[n - 1]!.hasTree));
          for (const n of numbered(builders)) machines.take(farm.compileAgent(`b-${n}`, n === 1 ? { warm } : {}));
          const cameAt = new Map<number, number>();
          for (const [index, { afterMs, priority, isByThread }] of all.entries()) {
            const n = index + 1;
            machines.runUntil(farm.at + afterMs);
            cameAt.set(n, farm.at);
            const request = installRequest(n);
            const target = {
              ...request.upload!.target,
              ...(isByThread ? { medium: { kind: "thread" as const, segment: "hall" } } : {}),
            };
            farm.submit({ ...request, priority, upload: { target } });
            machines.take(farm.last);
          }
          machines.runUntil(Number.POSITIVE_INFINITY);
          expect(machines.begun.map(({ n }) => n).sort((a, b) => a - b)).toEqual(numbered(all.length));
          for (const [index, { n }] of machines.begun.entries()) {
            for (const later of machines.begun.slice(index + 1)) {
              expect(cameAt.get(n)! - cameAt.get(later.n)!).toBeLessThan(passMsMax);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("who waits for a tree while machines are free is built no later than cold, as far as the durations are right", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 5, max: 180 }), { minLength: 1, maxLength: 12 }), (seconds) => {
        const farm = farmThatKnows(seconds);
        const all = numbered(seconds.length);
        const lengthOf = (n: number, agent: AgentId) => (agent === "old" ? 2_000 : seconds[n - 1]! * 1_000);
        const machines = new Machines(farm, lengthOf);
        farm.compileAgent("old", { warm: devices(...all) });
        for (const n of all) farm.compileAgent(`new-${n}`);
        const { at } = farm;
        farm.submit(...all.map((n) => buildRequest(n)));
        machines.take(farm.last);
        machines.runUntil(Number.POSITIVE_INFINITY);
        for (const { n, agent, at: begunAt } of machines.begun) {
          expect(begunAt + lengthOf(n, agent) - at).toBeLessThanOrEqual(Math.max(2_000, seconds[n - 1]! * 1_000));
        }
      }),
      { numRuns: 60 },
    );
  });
});
