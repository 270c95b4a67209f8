/** Which release of ESPHome a configuration is built with. */
import { z } from "zod";
import type { AgentView } from "#protocol/admin.ts";
import { UsageError } from "#protocol/errors.ts";
import { compareReleases } from "#protocol/release.ts";
import { defaultEsphomeVersion } from "#cli/session.ts";

/** Exactly `2026.10.0`; `2026.10`: any of that release; `newest`: the newest that the farm has. */
export const VersionWish = z
  .string()
  .regex(/^(\d{4}\.\d{1,2}(\.\d{1,2}(b\d+)?)?|newest)$/, "a release looks like 2026.10.0, 2026.10 or newest");

/** @throws UsageError `bad-version` */
export function wishFrom(text: string): string {
  const wish = VersionWish.safeParse(text);
  if (wish.success) return wish.data;
  throw new UsageError(
    "bad-version",
    `--esphome-version ${JSON.stringify(text)}: ${wish.error.issues[0]?.message ?? ""}`,
  );
}

/**
 * The release that a wish comes to: of those that some agent has ready the newest that fits, so that no environment is made where one
 * will do. Where none fits, the first of the release that is wished for, or the default. Pure.
 */
export function versionFor(wish: string | undefined, agents: readonly AgentView[]): string {
  if (wish === undefined) return defaultEsphomeVersion;
  if (wish !== "newest" && wish.split(".").length === 3) return wish;
  const ready = agents
    .filter(({ online }) => online)
    .flatMap(({ announcement }) => announcement.compile?.esphomeVersions ?? [])
    .filter((version) => wish === "newest" || version.startsWith(`${wish}.`));
  const newest = ready.toSorted(compareReleases).at(-1);
  if (newest !== undefined) return newest;
  const isDefault = wish === "newest" || defaultEsphomeVersion.startsWith(`${wish}.`);
  return isDefault ? defaultEsphomeVersion : `${wish}.0`;
}
