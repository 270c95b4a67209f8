/** Requests and dependencies: what is taken in, what is held, released and cancelled with its prerequisite. */
import { describe, expect, test } from "vitest";
import {
  buildRequest,
  built,
  chainNumber,
  failedWith,
  failures,
  installRequest,
  startAt,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

describe("what a request becomes", () => {
  test("an install is a queued compile and an upload held for it", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1));
    expect(farm.states(1)).toBe("queued, held");
    expect(farm.job(1, "compile").queuedAt).toBe(startAt);
    expect(farm.job(1, "upload").queuedAt).toBeUndefined();
  });

  test("a build has no upload, and an upload of a given artifact waits for nothing", () => {
    const farm = new TestFarm();
    farm.submit(buildRequest(1), uploadRequest(2));
    expect(farm.states(1)).toBe("queued");
    expect(farm.states(2)).toBe("queued");
  });

  test("an accepted request names its chains in the order in which they were asked for", () => {
    const farm = new TestFarm();
    expect(farm.submit(installRequest(2), installRequest(1))).toEqual({
      kind: "accepted",
      chains: [chainNumber(2), chainNumber(1)],
      superseded: [],
    });
  });

  test.each([
    ["an install without a build", { ...installRequest(1), build: undefined }],
    ["an install without an upload", { ...installRequest(1), upload: undefined }],
    ["a build with an upload", { ...installRequest(1), kind: "build" as const }],
    ["an upload with a build", { ...installRequest(1), kind: "upload" as const }],
    ["an upload without an artifact", { ...uploadRequest(1), upload: { target: uploadRequest(1).upload!.target } }],
  ])("%s is refused, says which configuration, and leaves nothing", (_what, broken) => {
    const farm = new TestFarm();
    const request = Object.fromEntries(Object.entries(broken).filter(([, value]) => value !== undefined));
    const answer = farm.submit(request as never);
    expect(answer).toMatchObject({
      kind: "refused",
      code: "chain-incomplete",
      message: expect.stringContaining("device 1"),
    });
    expect(farm.farm.chains.size).toBe(0);
    expect(farm.last.changed.size).toBe(0);
  });

  test("a bulk request with one incomplete chain is refused as a whole and leaves nothing, not even a superseded chain", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1, { configuration: "kitchen" }));
    const incomplete = { ...buildRequest(3), kind: "install" as const };
    expect(farm.submit(installRequest(2, { configuration: "kitchen" }), incomplete).kind).toBe("refused");
    expect([...farm.farm.chains.keys()]).toEqual([chainNumber(1)]);
    expect(farm.states(1)).toBe("queued, held");
  });

  test("a bulk request is one atomic change, and so is a request with the chain that it supersedes", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1, { configuration: "kitchen" }));
    expect(farm.last.isAtomic).toBe(false);
    farm.submit(installRequest(2), installRequest(3));
    expect(farm.last.isAtomic).toBe(true);
    expect(farm.last.changed.size).toBe(2);
    farm.submit(installRequest(4, { configuration: "kitchen" }));
    expect(farm.last.isAtomic).toBe(true);
    expect([...farm.last.changed.keys()]).toEqual([chainNumber(1), chainNumber(4)]);
  });

  test("asking twice is asking once: the answer is the same and nothing changes", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    const first = farm.submit(installRequest(1), installRequest(2));
    const before = farm.farm;
    expect(farm.submit(installRequest(1), installRequest(2))).toEqual(first);
    expect(farm.last.changed.size).toBe(0);
    expect(farm.farm).toBe(before);
    expect(farm.effects("dispatch")).toEqual([]);
  });

  test("a request that names one chain twice starts it once", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1), installRequest(1));
    expect(farm.farm.chains.size).toBe(1);
    expect(farm.states(1)).toBe("queued, held");
  });
});

describe("what the end of a build means for its upload", () => {
  test("a succeeded compile releases its upload, and it is dispatched in the same step", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.uploadAgent("pi");
    farm.submit(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", built());
    expect(farm.states(1)).toBe("succeeded, dispatched");
    expect(farm.last.changed.size).toBe(1);
    expect(farm.effects("dispatch")).toEqual([
      { kind: "dispatch", agent: "pi", chain: chainNumber(1), job: "upload", attempt: 1 },
    ]);
  });

  test("a succeeded compile whose upload finds no agent leaves it queued from that instant on", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(installRequest(1));
    farm.claim(1, "compile");
    farm.at += 5_000;
    farm.report(1, "compile", built());
    expect(farm.states(1)).toBe("succeeded, queued");
    expect(farm.job(1, "upload").queuedAt).toBe(farm.at);
  });

  test("a failed compile cancels its held upload in the same step, with its cause, and the chain is archived", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(installRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", failedWith(failures.final));
    expect(farm.states(1)).toBe("failed, cancelled");
    expect(farm.job(1, "upload").outcome).toEqual({ kind: "cancelled", cause: "prerequisite-failed" });
    expect(farm.effects("archive")).toEqual([{ kind: "archive", chain: chainNumber(1) }]);
    expect(farm.effects("dispatch")).toEqual([]);
  });

  test("a compile that is tried again keeps its upload held", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(installRequest(1));
    farm.claim(1, "compile");
    farm.vanish("bench");
    expect(farm.states(1)).toBe("queued, held");
  });

  test("a held upload without its compile is cancelled as soon as its chain is looked at", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(installRequest(1));
    const { compile: _compile, ...rest } = farm.chain(1);
    farm.farm = { ...farm.farm, chains: new Map([[chainNumber(1), rest]]) };
    farm.pass(1_000);
    expect(farm.states(1)).toBe("cancelled");
    expect(farm.job(1, "upload").outcome).toEqual({ kind: "cancelled", cause: "prerequisite-unknown" });
  });
});

describe("the end of a chain", () => {
  test("a chain is asked to be archived once, in the step in which its last job ends", () => {
    const farm = new TestFarm();
    farm.compileAgent("bench");
    farm.submit(buildRequest(1));
    farm.claim(1, "compile");
    farm.report(1, "compile", built());
    expect(farm.effects("archive")).toEqual([{ kind: "archive", chain: chainNumber(1) }]);
    farm.report(1, "compile", built());
    expect(farm.effects("archive")).toEqual([]);
  });

  test("an archived chain leaves the live records, a live one stays whatever is said of it", () => {
    const farm = new TestFarm();
    farm.submit(buildRequest(1), buildRequest(2));
    farm.cancel(1);
    farm.send({ kind: "chain-archived", chain: chainNumber(1) });
    expect([...farm.last.changed]).toEqual([[chainNumber(1), undefined]]);
    farm.send({ kind: "chain-archived", chain: chainNumber(2) });
    farm.send({ kind: "chain-archived", chain: chainNumber(1) });
    expect(farm.last.changed.size).toBe(0);
    expect([...farm.farm.chains.keys()]).toEqual([chainNumber(2)]);
  });
});
