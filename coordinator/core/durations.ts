/** How long jobs take, learned from those that have ended. */
import type { Chain } from "#protocol/chain.ts";
import { mediumName, mediumOf } from "#protocol/job.ts";
import type { DurationRecord, Estimate } from "#protocol/records.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";

/** The newest measurement weighs this much at least: a configuration that grows is known again after a few builds. */
const weight = 0.3;

/** What a finished chain adds to what is known of its configuration; undefined when it has measured nothing. */
export function learnFrom(record: DurationRecord | undefined, chain: Chain): DurationRecord | undefined {
  const { configuration, compile, upload } = chain;
  const built = compile?.outcome?.kind === "built" && compile.outcome.reusedFrom === undefined ? compile : undefined;
  const flashed = upload?.outcome?.kind === "flashed" && upload.outcome.wrote ? upload : undefined;
  if (built === undefined && flashed === undefined) return undefined;
  const at = Math.max(built?.endedAt ?? 0, flashed?.endedAt ?? 0);
  let next: DurationRecord = { v: 1, configuration, platform: "unknown", uploads: {}, ...record, at };
  if (built?.outcome?.kind === "built") {
    const { buildMs, isWarm, manifest } = built.outcome;
    const kind = isWarm === true ? "warm" : "cold";
    next = { ...next, platform: manifest.platform, [kind]: measured(next[kind], buildMs) };
  }
  if (flashed?.outcome?.kind === "flashed" && flashed.outcome.level !== "told") {
    const medium = mediumName(mediumOf(flashed.spec.target));
    next = { ...next, uploads: { ...next.uploads, [medium]: measured(next.uploads[medium], flashed.outcome.flashMs) } };
  }
  return next;
}

function measured(before: Estimate | undefined, ms: number): Estimate {
  if (before === undefined) return { ms, count: 1 };
  const share = Math.max(weight, 1 / (before.count + 1));
  return { ms: before.ms + (ms - before.ms) * share, count: before.count + 1 };
}

/**
 * What is taken for the time of a job of which nothing was measured, in ms. Builds: ESPHome 2026.10 on two to four cores, a small
 * configuration; ESP-IDF compiles a thousand files. Warm: an unchanged build 0.4 s, a changed one 1 to 5 s. Flashes: 1 MB.
 */
const usual = {
  cold: { host: 20_000, esp8266: 60_000, esp32: 120_000 } as Readonly<Record<string, number>>,
  otherCold: 60_000,
  warm: 3_000,
  upload: { wifi: 20_000, ethernet: 10_000, thread: 540_000, serial: 30_000 },
};

/** How long a build takes with or without its tree: as it did before, else as others of its platform did, else as usual. */
export function expectedBuildMs(
  { durations }: Pick<Knowledge, "durations">,
  { configuration, compile }: Chain,
  isWarm: boolean,
): number {
  const kind = isWarm ? "warm" : "cold";
  const own = durations.get(configuration);
  if (own?.[kind] !== undefined) return own[kind].ms;
  const platform = compile?.spec.platform ?? own?.platform ?? "unknown";
  return (
    meansOf(durations).get(`${kind} ${platform}`) ?? (isWarm ? usual.warm : (usual.cold[platform] ?? usual.otherCold))
  );
}

/** How long the flash of a chain takes, as `expectedBuildMs`. */
export function expectedUploadMs(
  { durations }: Pick<Knowledge, "durations">,
  { configuration, upload }: Chain,
): number {
  if (upload === undefined) return 0;
  const medium = mediumOf(upload.spec.target);
  const own = durations.get(configuration)?.uploads[mediumName(medium)];
  return own?.ms ?? meansOf(durations).get(`upload ${mediumName(medium)}`) ?? usual.upload[medium.kind];
}

/** Whether a configuration has been built here before, so that its tree is somewhere unless it was taken away. */
export function hasBuilt({ durations }: Pick<Knowledge, "durations">, { configuration }: Chain): boolean {
  const own = durations.get(configuration);
  return own?.cold !== undefined || own?.warm !== undefined;
}

type Durations = Knowledge["durations"];
const means = new WeakMap<Durations, ReadonlyMap<string, number>>();

/** Over all configurations: by `cold` and `warm` with the platform, and by `upload` with the medium. */
function meansOf(durations: Durations): ReadonlyMap<string, number> {
  const kept = means.get(durations);
  if (kept !== undefined) return kept;
  const sums = new Map<string, { ms: number; of: number }>();
  const add = (key: string, estimate: Estimate | undefined) => {
    if (estimate === undefined) return;
    const { ms, of } = sums.get(key) ?? { ms: 0, of: 0 };
    sums.set(key, { ms: ms + estimate.ms, of: of + 1 });
  };
  for (const { platform, cold, warm, uploads } of durations.values()) {
    add(`cold ${platform}`, cold);
    add(`warm ${platform}`, warm);
    for (const [medium, estimate] of Object.entries(uploads)) add(`upload ${medium}`, estimate);
  }
  const found = new Map([...sums].map(([key, { ms, of }]) => [key, ms / of]));
  means.set(durations, found);
  return found;
}
