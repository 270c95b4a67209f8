import { expect, test } from "vitest";
import type { AgentView } from "#protocol/admin.ts";
import { defaultEsphomeVersion } from "#cli/session.ts";
import { versionFor, wishFrom } from "#cli/esphome-version.ts";
import { statementOf } from "#test/support/farm-builders.ts";

function agentWith(versions: readonly string[], online = true): AgentView {
  const announcement = statementOf("build-1", "compile", { esphomeVersions: versions });
  return { announcement, busy: 0, online, isDrained: false, seenAt: 0 };
}

const farm = [agentWith(["2026.9.2", "2026.10.0b3"]), agentWith(["2026.9.10", "2025.12.0"])];

test.each([
  ["nothing", undefined, defaultEsphomeVersion],
  ["a whole release", "2025.1.3", "2025.1.3"],
  ["a release that the farm has", "2026.9", "2026.9.10"],
  ["a release that only a beta is there of", "2026.10", "2026.10.0b3"],
  ["a release that nobody has", "2024.6", "2024.6.0"],
  ["the newest", "newest", "2026.10.0b3"],
])("%s is built with what fits best", (_name, wish, version) => {
  expect(versionFor(wish, farm)).toBe(version);
});

test("a release comes after its betas, and what an absent agent has does not count", () => {
  expect(versionFor("newest", [agentWith(["2026.10.0", "2026.10.0b9"])])).toBe("2026.10.0");
  expect(versionFor("newest", [agentWith(["2030.1.0"], false)])).toBe(defaultEsphomeVersion);
});

test.each(["2026", "latest", "2026.10.0.1", ""])("%j is no release", (text) => {
  expect(() => wishFrom(text)).toThrow(/a release looks like 2026.10.0, 2026.10 or newest/);
});
