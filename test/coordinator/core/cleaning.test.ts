/** Taking build trees away: what gives way, what is waited for, what is gated meanwhile, and how all of that ends. */
import { describe, expect, test } from "vitest";
import type { ChainId } from "#protocol/ids.ts";
import { siblingIds } from "#protocol/ids.ts";
import { deathMsMax, leaseMs } from "#protocol/limits.ts";
import { emptyFarm } from "#coordinator/core/farm.ts";
import {
  buildRequest,
  built,
  chainNumber,
  cleaned,
  failedWith,
  failures,
  flashed,
  installRequest,
  renameRequest,
  statementOf,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const kitchen = { configuration: "kitchen" };
const cellar = { configuration: "cellar" };

/** One builder that has the kitchen's tree, one flasher. */
function farmWithAgents(slots = 4): TestFarm {
  const farm = new TestFarm();
  farm.compileAgent("bench", { slots, warm: ["kitchen"] });
  farm.uploadAgent("pi", { slots });
  return farm;
}

/** The chains that a clean or reset of this number has made. */
function cleansOf(farm: TestFarm, n: number, count: number): readonly (string | undefined)[] {
  return siblingIds(chainNumber(n), count).map((id: ChainId) => farm.farm.chains.get(id)?.clean?.state);
}

/** A coordinator that starts: it knows the records, and hears the agents anew. */
function restart(farm: TestFarm, ...heard: readonly ReturnType<typeof statementOf>[]): void {
  farm.farm = { ...emptyFarm, chains: new Map([...farm.farm.chains].toReversed()) };
  for (const statement of heard) farm.announce(statement);
}

describe("clean", () => {
  test("cancels the configuration's chain, then cleans on every agent that has a tree, and on none that has not", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench-1", { warm: ["kitchen"] });
    farm.compileAgent("bench-2", { warm: ["cellar"] });
    farm.compileAgent("bench-3", { warm: ["kitchen"] });
    farm.vanish("bench-3");
    farm.compileAgent("bench-4", { warm: ["kitchen"] });
    farm.submit(installRequest(1, kitchen), installRequest(2, cellar));
    expect(farm.clean(3, "kitchen")).toEqual({
      kind: "accepted",
      chains: siblingIds(chainNumber(3), 2),
      superseded: [chainNumber(1)],
      away: ["bench-3"],
    });
    expect(farm.last.isAtomic).toBe(true);
    expect(farm.job(1, "upload").outcome).toEqual({ kind: "cancelled", cause: "clean" });
    expect(farm.states(2)).toMatch(/^dispatched/);
    expect(cleansOf(farm, 3, 2)).toEqual(["dispatched", "dispatched"]);
    expect(farm.chain(3).clean).toMatchObject({ spec: { on: "bench-1", trees: "configuration" } });
  });

  test("waits for the build in its tree to die, and for no other", () => {
    const farm = farmWithAgents();
    farm.submit(buildRequest(1, kitchen), buildRequest(2, cellar));
    farm.claim(1, "compile");
    farm.claim(2, "compile");
    farm.clean(3, "kitchen");
    expect(farm.states(1)).toBe("cancelling");
    expect(farm.states(3)).toBe("held");
    farm.report(1, "compile", { kind: "stopped" });
    expect(farm.states(3)).toBe("dispatched");
    expect(farm.states(2)).toBe("running");
    farm.claim(3, "clean");
    farm.report(3, "clean", cleaned);
    expect(farm.states(3)).toBe("succeeded");
    expect(farm.job(3, "clean").outcome).toEqual(cleaned);
  });

  test("waits for a build that gives its configuration another name", () => {
    const farm = farmWithAgents();
    farm.submit(renameRequest(1, { configuration: "cellar", renamed: "kitchen" }));
    farm.claim(1, "compile");
    farm.clean(2, "kitchen");
    expect(farm.states(1)).toBe("cancelling, cancelled");
    expect(farm.states(2)).toBe("held");
    farm.report(1, "compile", { kind: "stopped" });
    expect(farm.states(2)).toBe("dispatched");
  });

  test("also goes to the agent whose first build of it was under way", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(buildRequest(1, kitchen));
    farm.claim(1, "compile");
    expect(farm.clean(2, "kitchen")).toMatchObject({ chains: [chainNumber(2)] });
  });

  test("holds no flash up that has begun, and needs no agent to be answered", () => {
    const farm = farmWithAgents();
    farm.submit(installRequest(1, kitchen));
    farm.bringToUpload(1);
    farm.claimFlash(1);
    farm.clean(2, "kitchen");
    expect(farm.states(1)).toBe("succeeded, running");
    expect(farm.states(2)).toBe("dispatched");
    expect(farm.clean(3, "attic")).toEqual({ kind: "accepted", chains: [], superseded: [], away: [] });
  });

  test("gates builds and uploads of its configuration only, and the gate opens with its end", () => {
    const farm = farmWithAgents();
    farm.clean(1, "kitchen");
    farm.submit(uploadRequest(2, kitchen), uploadRequest(3, cellar));
    expect(farm.states(2)).toBe("queued");
    expect(farm.states(3)).toBe("dispatched");
    farm.claim(1, "clean");
    expect(farm.states(2)).toBe("queued");
    farm.report(1, "clean", failedWith(failures.internal));
    expect(farm.states(1)).toBe("failed");
    expect(farm.states(2)).toBe("dispatched");
  });

  test("asked for again with the same id is the same one", () => {
    const farm = farmWithAgents();
    farm.clean(1, "kitchen");
    farm.submit(installRequest(2, kitchen));
    expect(farm.clean(1, "kitchen")).toEqual({
      kind: "accepted",
      chains: [chainNumber(1)],
      superseded: [],
      away: [],
    });
    expect(farm.states(2)).toBe("queued, held");
  });

  test("is no request for a build: an install waits behind it and does not supersede it", () => {
    const farm = farmWithAgents();
    farm.clean(1, "kitchen");
    expect(farm.submit(installRequest(2, kitchen))).toMatchObject({ superseded: [] });
    expect(farm.states(1)).toBe("dispatched");
    farm.claim(1, "clean");
    farm.report(1, "clean", cleaned);
    expect(farm.states(2)).toBe("dispatched, held");
  });

  test("is lost with its agent, and not tried elsewhere or later", () => {
    const farm = farmWithAgents();
    farm.clean(1, "kitchen");
    farm.claim(1, "clean");
    farm.compileAgent("bench", { boot: 2, warm: ["kitchen"] });
    expect(farm.states(1)).toBe("failed");
    expect(farm.job(1, "clean").outcome).toMatchObject({ failure: { kind: "agent-lost", effect: "none" } });
  });

  test("that no agent has taken ends when its agent goes away", () => {
    const farm = farmWithAgents(1);
    farm.submit(buildRequest(1, cellar));
    farm.claim(1, "compile");
    farm.clean(2, "kitchen");
    expect(farm.states(2)).toBe("queued");
    farm.vanish("bench");
    farm.pass(9_999);
    expect(farm.states(2)).toBe("queued");
    farm.pass(1);
    expect(farm.states(2)).toBe("failed");
  });
});

describe("reset", () => {
  test("cancels all jobs on both lanes in one commit, waits for every death, then wipes every agent", () => {
    const farm = farmWithAgents();
    farm.compileAgent("bench-2");
    farm.submit(installRequest(1, kitchen), installRequest(2, cellar), uploadRequest(3));
    farm.claim(1, "compile");
    farm.claim(3, "upload");
    expect(farm.reset(4)).toMatchObject({ chains: siblingIds(chainNumber(4), 2) });
    expect(farm.last.isAtomic).toBe(true);
    expect([farm.states(1), farm.states(2), farm.states(3)]).toEqual([
      "cancelling, cancelled",
      "cancelled, cancelled",
      "cancelling",
    ]);
    expect(cleansOf(farm, 4, 2)).toEqual(["held", "held"]);
    farm.report(1, "compile", { kind: "stopped" });
    expect(cleansOf(farm, 4, 2)).toEqual(["held", "held"]);
    farm.report(3, "upload", { kind: "stopped" });
    expect(cleansOf(farm, 4, 2)).toEqual(["dispatched", "dispatched"]);
    expect(farm.job(3, "upload").outcome).toEqual({ kind: "cancelled", cause: "reset" });
  });

  test("waits for a flash that has begun, however long it takes", () => {
    const farm = farmWithAgents();
    farm.submit(installRequest(1, kitchen));
    farm.bringToUpload(1);
    farm.claimFlash(1);
    farm.reset(2);
    const holding = [{ chain: chainNumber(1), job: "upload" as const, attempt: 1 }];
    for (let waitedMs = 0; waitedMs <= 10 * deathMsMax; waitedMs += 10_000) {
      farm.uploadAgent("pi", { slots: 4, holding });
      farm.pass(10_000);
    }
    expect(farm.states(2)).toBe("held");
    farm.report(1, "upload", flashed);
    expect(farm.states(1)).toBe("succeeded, succeeded");
    expect(farm.states(2)).toBe("dispatched");
  });

  test("waits for a lost flash until its device was asked, and lets the question pass its own gate", () => {
    const farm = farmWithAgents();
    farm.submit(uploadRequest(1, kitchen));
    farm.claim(1, "upload");
    farm.claimFlash(1);
    farm.reset(2);
    farm.uploadAgent("pi", { slots: 4, boot: 2 });
    farm.pass(deathMsMax + 1_000);
    expect(farm.upload(1)).toMatchObject({ state: "dispatched", mode: "probe" });
    expect(farm.states(2)).toBe("held");
    farm.claim(1, "upload");
    farm.report(1, "upload", flashed);
    expect(farm.states(2)).toBe("dispatched");
  });

  test("a fresh upload during a reset waits for its end", () => {
    const farm = farmWithAgents();
    farm.reset(1);
    farm.submit(uploadRequest(2, kitchen), buildRequest(3, cellar));
    expect([farm.states(2), farm.states(3)]).toEqual(["queued", "queued"]);
    farm.claim(1, "clean");
    expect([farm.states(2), farm.states(3)]).toEqual(["queued", "queued"]);
    farm.report(1, "clean", cleaned);
    expect([farm.states(2), farm.states(3)]).toEqual(["dispatched", "dispatched"]);
  });

  test("the held half of another chain that is released during a reset waits for its end", () => {
    const farm = farmWithAgents();
    // Builds are gated as well, so that only a record of another version can be in this state now.
    farm.reset(9);
    farm.submit(installRequest(1, kitchen));
    const chain = farm.chain(1);
    const done = { ...chain.compile!, state: "succeeded" as const, endedAt: farm.at, outcome: built() as never };
    farm.farm = { ...farm.farm, chains: new Map([...farm.farm.chains, [chain.id, { ...chain, compile: done }]]) };
    farm.pass(10);
    expect(farm.states(1)).toBe("succeeded, queued");
    farm.claim(9, "clean");
    farm.report(9, "clean", cleaned);
    expect(farm.states(1)).toBe("succeeded, dispatched");
  });

  test("an upload that is cancelled while it waits at the gate is skipped, and the next one runs", () => {
    const farm = farmWithAgents(1);
    farm.reset(1);
    farm.submit(uploadRequest(2, kitchen), uploadRequest(3, cellar));
    farm.cancel(2);
    expect(farm.states(2)).toBe("cancelled");
    farm.claim(1, "clean");
    farm.report(1, "clean", cleaned);
    expect(farm.states(3)).toBe("dispatched");
    expect(farm.effects("dispatch")).toHaveLength(1);
  });

  test("the gate stays closed until the last agent is wiped", () => {
    const farm = farmWithAgents();
    farm.compileAgent("bench-2");
    farm.reset(1);
    farm.submit(uploadRequest(5, kitchen));
    farm.claim(1, "clean");
    farm.report(1, "clean", cleaned);
    expect(farm.states(5)).toBe("queued");
    farm.vanish("bench-2");
    farm.pass(10_000);
    expect(cleansOf(farm, 1, 2)).toEqual(["succeeded", "failed"]);
    expect(farm.states(5)).toBe("dispatched");
  });

  test("is refused where no agent builds, and changes nothing", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1));
    expect(farm.reset(2)).toMatchObject({ kind: "refused", code: "no-agent" });
    expect(farm.states(1)).toBe("queued, held");
  });

  test("a newer reset takes the place of one that waits", () => {
    const farm = farmWithAgents();
    farm.submit(buildRequest(1, kitchen));
    farm.claim(1, "compile");
    farm.reset(2);
    expect(farm.reset(3)).toMatchObject({ superseded: [chainNumber(1), chainNumber(2)] });
    expect([farm.states(2), farm.states(3)]).toEqual(["cancelled", "held"]);
  });
});

describe("a reset that cannot confirm a death", () => {
  /** A build that its agent is told to end, still says it holds, and never reports. */
  function unkillable(): { farm: TestFarm; stillAlive: () => void } {
    const farm = farmWithAgents();
    farm.submit(buildRequest(1, kitchen));
    farm.claim(1, "compile");
    farm.reset(2);
    const holding = [{ chain: chainNumber(1), job: "compile" as const, attempt: 1 }];
    return { farm, stillAlive: () => farm.compileAgent("bench", { slots: 4, holding, warm: ["kitchen"] }) };
  }

  test("fails, touches no tree, and says what did not die", () => {
    const { farm, stillAlive } = unkillable();
    stillAlive();
    farm.pass(deathMsMax - 1);
    expect(farm.states(2)).toBe("held");
    farm.pass(1);
    expect(farm.states(2)).toBe("failed");
    expect(farm.job(2, "clean").outcome).toEqual({
      kind: "failed",
      failure: {
        kind: "death-unproven",
        job: `${chainNumber(1)}.compile`,
        agent: "bench",
        waitedMs: deathMsMax,
      },
    });
    expect(farm.effects("dispatch")).toEqual([]);
  });

  test("leaves no orphan: all that it has cancelled is over, but for the one that lives", () => {
    const { farm, stillAlive } = unkillable();
    stillAlive();
    farm.pass(deathMsMax);
    expect(farm.states(1)).toBe("cancelling");
    // The agent is told again, and whatever it then says ends the job.
    stillAlive();
    expect(farm.effects("stop")).toHaveLength(1);
    farm.report(1, "compile", built());
    expect(farm.states(1)).toBe("cancelled");
  });

  test.each([false, true])("wedges nothing: other work runs, a later reset works (restart: %s)", (isRestarted) => {
    const { farm, stillAlive } = unkillable();
    stillAlive();
    farm.pass(deathMsMax);
    const holding = [{ chain: chainNumber(1), job: "compile" as const, attempt: 1 }];
    if (isRestarted) {
      restart(farm, statementOf("bench", "compile", { slots: 4, holding }), statementOf("pi", "upload", { slots: 4 }));
    }
    farm.submit(installRequest(3, cellar), installRequest(4, kitchen));
    expect(farm.states(3)).toBe("dispatched, held");
    // Its tree is still taken.
    expect(farm.states(4)).toBe("queued, held");
    farm.compileAgent("bench", { slots: 4, boot: 2 });
    expect(farm.states(1)).toBe("cancelled");
    expect(farm.states(4)).toBe("dispatched, held");
    farm.reset(5);
    farm.claim(5, "clean");
    farm.report(5, "clean", cleaned);
    expect(farm.states(5)).toBe("succeeded");
  });

  test("at a restart in the middle goes on as it was, in whatever order the records are read", () => {
    const { farm } = unkillable();
    const holding = [{ chain: chainNumber(1), job: "compile" as const, attempt: 1 }];
    restart(farm, statementOf("bench", "compile", { slots: 4, holding }));
    expect(farm.states(2)).toBe("held");
    farm.report(1, "compile", { kind: "stopped" });
    expect(farm.states(2)).toBe("dispatched");
  });

  test("whose agent never comes back after a restart ends with that agent's lease", () => {
    const { farm } = unkillable();
    restart(farm);
    farm.pass(0);
    farm.pass(leaseMs);
    expect(farm.states(1)).toBe("cancelled");
    farm.pass(1);
    expect(farm.states(2)).toBe("failed");
  });
});
