/** Agents are told ahead what they will probably need. */
import { describe, expect, test } from "vitest";
import type { ChainRequest } from "#protocol/admin.ts";
import type { Medium } from "#protocol/job.ts";
import type { UploadTiming } from "#protocol/timing.ts";
import {
  agentNamed,
  buildRequest,
  built,
  digestNumber,
  flashed,
  manifestOfBuild,
  targetAt,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

describe("an agent that builds", () => {
  test("hears with a build of the bundle that is next, each agent of another", () => {
    const farm = new TestFarm();
    farm.submit(...[1, 2, 3, 4].map((n) => buildRequest(n)));
    farm.compileAgent("builder-1");
    expect(hintsOf(farm)).toEqual([["builder-1", [2]]]);
    farm.claim(1, "compile");
    farm.compileAgent("builder-2");
    farm.report(1, "compile", built());
    expect(hintsOf(farm)).toEqual([["builder-1", [4]]]);
  });

  test("is not told of a build that is for somebody else, or when nothing waits", () => {
    const farm = new TestFarm();
    const elsewhere = { on: agentNamed("builder-9"), labels: [] };
    farm.submit(buildRequest(1), { ...buildRequest(2), route: elsewhere });
    farm.compileAgent("builder-1");
    expect([farm.effects("dispatch").length, hintsOf(farm)]).toEqual([1, []]);
  });
});

describe("an uploader", () => {
  test("hears with a flash of those that will probably follow, as many as it has slots", () => {
    const farm = new TestFarm();
    farm.submit(...[1, 2, 3, 4, 5].map((n) => flashOf(n)));
    farm.uploadAgent("flasher", { slots: 2 });
    expect(hintsOf(farm)).toEqual([["flasher", [3, 4]]]);
    farm.claim(1, "upload");
    farm.report(1, "upload", flashed);
    expect(hintsOf(farm)).toEqual([["flasher", [4, 5]]]);
  });

  test("hears of a flash that has to wait for a slot", () => {
    const farm = new TestFarm();
    farm.uploadAgent("flasher");
    farm.submit(flashOf(1));
    expect(hintsOf(farm)).toEqual([]);
    farm.submit(flashOf(2));
    expect(hintsOf(farm)).toEqual([["flasher", [2]]]);
    farm.pass(1_000);
    expect(hintsOf(farm)).toEqual([]);
  });

  test("hears of what will be its own: what waits goes to whoever is free first", () => {
    const farm = new TestFarm();
    farm.uploadAgent("flasher-1");
    farm.submit(flashOf(1));
    farm.claim(1, "upload");
    farm.at += 5_000;
    farm.uploadAgent("flasher-2");
    farm.submit(flashOf(2), flashOf(3), flashOf(4));
    expect(hintsOf(farm)).toEqual([
      ["flasher-1", [3]],
      ["flasher-2", [4]],
    ]);
  });

  test("is not told of what it may not flash, nor of what waits for the air or for its time", () => {
    const farm = new TestFarm();
    farm.uploadAgent("flasher");
    const medium = { kind: "thread", segment: "hall" } as const;
    const timing = { window: { from: 120, to: 300, zone: "UTC" } };
    farm.submit(flashOf(1, { medium }), flashOf(2, { medium }), flashOf(3, { on: "other" }), flashOf(4, { timing }));
    expect(hintsOf(farm)).toEqual([]);
    farm.claim(1, "upload");
    farm.submit(flashOf(5));
    const failure = { kind: "device-unreachable", address: "device", detail: "no answer" } as const;
    farm.report(1, "upload", { kind: "failed", failure });
    expect([farm.upload(1).notBeforeAt !== undefined, hintsOf(farm)]).toEqual([true, [["flasher", [5]]]]);
  });

  test("is not told anything where there are too many to know whose slot will be free first", () => {
    const farm = new TestFarm();
    for (let number = 1; number <= 33; number += 1) farm.uploadAgent(`flasher-${number}`);
    farm.submit(...Array.from({ length: 34 }, (_, index) => flashOf(index + 1)));
    expect([farm.effects("dispatch").length, hintsOf(farm)]).toEqual([33, []]);
  });
});

/** Whom the newest step told, and of what. */
function hintsOf(farm: TestFarm) {
  return farm.effects("prefetch").map(({ agent, hint }) => {
    const digests = "bundle" in hint ? [hint.bundle] : hint.images.map(({ digest }) => digest);
    return [agent, digests.map((digest) => Number.parseInt(digest, 16))];
  });
}

interface FlashOptions {
  readonly medium?: Medium;
  readonly on?: string;
  readonly timing?: UploadTiming;
}

/** The flash of an image whose digest is its number. */
function flashOf(n: number, { medium, on, timing }: FlashOptions = {}): ChainRequest {
  const image = { role: "ota", name: "firmware.ota.bin", digest: digestNumber(n), bytes: 1_000 } as const;
  return {
    ...uploadRequest(n),
    upload: {
      target: { ...targetAt(`device-${n}.local`), ...(medium === undefined ? {} : { medium }) },
      manifest: { ...manifestOfBuild(`given ${n}`), images: [image] },
      ...(on === undefined ? {} : { on: agentNamed(on) }),
      ...(timing === undefined ? {} : { timing }),
    },
  };
}
