import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { inTurn, plainCapabilities, readCapabilities } from "#compile-agent/capabilities.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import { CompileCapabilities } from "#protocol/agent.ts";
import { configurationNamed } from "#test/support/farm-builders.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";

let home: TemporaryFolder;
beforeEach(async () => {
  home = await temporaryFolder();
});
afterEach(() => home[Symbol.asyncDispose]());

const environments = () => new EsphomeEnvironments({ cacheFolder: join(home.path, "cache"), clock: systemClock });

test("a build machine states its trees with their size, its pins, and what it is", async () => {
  const measured = Promise.withResolvers<void>();
  const workspace = new Workspace(home.path, { onMeasured: measured.resolve });
  const tree = { version: "2026.10.0", configuration: configurationNamed("lamp") };
  await workspace.withTree(tree, undefined, async () => undefined);
  await measured.promise;
  const pins = { pinnedVersions: ["2026.10.0"], pinnedPlatforms: ["esp32", "host"] };
  const capabilities = await readCapabilities(environments(), workspace, plainCapabilities([], pins));
  expect(CompileCapabilities.parse(capabilities)).toEqual(capabilities);
  expect(capabilities).toMatchObject({
    ...pins,
    environment: `${process.platform}-${process.arch}`,
    esphomeVersions: [],
    makesEnvironments: false,
    warm: [{ ...tree, bytes: expect.any(Number) as number, usedAt: expect.any(Number) as number }],
  });
});

test("a machine that nobody pinned states no pins, and its first statement needs no disk", () => {
  const capabilities = plainCapabilities([]);
  expect(CompileCapabilities.parse(capabilities)).toEqual(capabilities);
  expect(capabilities).toMatchObject({ esphomeVersions: [], warm: [] });
  expect(capabilities).not.toHaveProperty("pinnedVersions");
  expect(capabilities).not.toHaveProperty("pinnedPlatforms");
});

test("what is asked for while something is told is told once more, and only once", async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let count = 0;
  const tell = inTurn(async () => gates[count++]?.promise);
  const first = tell();
  await Promise.resolve();
  const others = [tell(), tell()];
  gates[0]?.resolve();
  await first;
  gates[1]?.resolve();
  await Promise.all(others);
  expect(count).toBe(2);
});
