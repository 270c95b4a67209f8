/**
 * Which builds need not run: their result is there already.
 *
 * 1. Two requests are equal when everything is equal that can change what comes out: the bundle, the driver with its version and
 *    flags, and what the request demands of the machine. Any agent that may take the one may take the other.
 * 2. A build is reused for a day at most: what a configuration names in the network (a component on a branch) is not in its bundle.
 * 3. While the trees of a configuration are taken away nothing of it is reused, and afterwards nothing from before.
 */
import type { Chain } from "#protocol/chain.ts";
import type { BuildSpec } from "#protocol/job.ts";
import type { Route } from "#protocol/route.ts";
import type { BuildRecord } from "#protocol/records.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";

/** As long as ESPHome itself goes by what it has fetched (`refresh: 1d`). A longer one saves little: trees stay warm. */
export const reuseMsMax = 24 * 60 * 60_000;

/** Equal for equal requests (invariant 1), whatever their configuration is called. */
export function buildKey(spec: BuildSpec, { on, labels, sandbox }: Route = { labels: [] }): string {
  const machine = [on ?? "", ...labels.toSorted(), ...(sandbox === undefined ? [] : [`sandbox ${sandbox}`])];
  switch (spec.driver) {
    case "esphome":
      return JSON.stringify(["esphome", spec.version, spec.bundle, spec.entry, spec.keepsDebug === true, machine]);
    case "command":
      return JSON.stringify(["command", spec.platform, spec.bundle, spec.argv, spec.artifacts, machine]);
  }
}

/** A build that an equal request may use at this instant. */
export function reusable({ builds, blocked }: Knowledge, key: string, at: number): BuildRecord | undefined {
  const found = builds.get(key);
  if (found === undefined || blocked.agents.has(found.agent)) return undefined;
  return at - found.builtAt < reuseMsMax ? found : undefined;
}

/** What a finished chain has built, for equal requests; undefined when it has built nothing itself. */
export function buildRecordOf({ id, configuration, compile }: Chain): BuildRecord | undefined {
  const { outcome, assigned, endedAt } = compile ?? {};
  if (compile === undefined || outcome?.kind !== "built" || outcome.reusedFrom !== undefined) return undefined;
  if (assigned === undefined || endedAt === undefined) return undefined;
  const { manifest, buildMs } = outcome;
  return {
    v: 1,
    key: buildKey(compile.spec, compile.route),
    chain: id,
    configuration,
    bundle: compile.spec.bundle,
    manifest,
    builtAt: endedAt,
    buildMs,
    agent: assigned.agent,
  };
}
