/** Which agents may have which jobs. */
import type { Job } from "#protocol/job.ts";
import { routeOf } from "#protocol/job.ts";
import { isAtLeast } from "#protocol/sandbox.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";

/** Why an agent cannot have a job, as the end of a sentence about it; undefined when it can. */
export function refusalOf(
  job: Job,
  { announcement, vanishedAt }: AgentState,
  { drained }: Pick<Knowledge, "drained">,
): string | undefined {
  const { agent, lane, labels = [] } = announcement;
  if (lane !== job.lane) return `works the ${lane} lane`;
  if (vanishedAt !== undefined) return "is away";
  // What takes its trees away is for this agent and no other.
  if (drained.has(agent) && job.name !== "clean") return "is drained";
  const route = routeOf(job);
  if (route.on !== undefined && route.on !== agent) return `the job is for ${route.on}`;
  const missing = route.labels.filter((label) => !labels.includes(label));
  if (missing.length > 0) return `does not carry ${missing.join(" and ")}`;
  if (job.avoid.includes(agent)) return "failed here in an earlier attempt";
  if (job.name === "upload") return refusalOfUpload(job, announcement.upload);
  return job.name === "compile" ? refusalOfBuild(job, announcement.compile) : undefined;
}

function refusalOfUpload(
  { spec: { target } }: Extract<Job, { name: "upload" }>,
  can: AgentState["announcement"]["upload"],
): string | undefined {
  if (target.kind !== "serial") return undefined;
  if (can?.ports.some(({ id }) => id === target.port) !== true) return `has no port ${target.port}`;
  const { tool } = target;
  if (tool.kind === "command" && !can.flashers.includes(tool.flasher)) return `has no flasher ${tool.flasher}`;
  return undefined;
}

function refusalOfBuild(
  { spec, route }: Extract<Job, { name: "compile" }>,
  can: AgentState["announcement"]["compile"],
): string | undefined {
  const { platform } = spec;
  const { sandbox } = route ?? {};
  if (sandbox !== undefined && !isAtLeast(can?.sandbox, sandbox)) {
    return `builds in a sandbox of level ${can?.sandbox ?? "none"}: the job needs a sandbox of level ${sandbox} or stronger`;
  }
  const { pinnedPlatforms, pinnedVersions } = can ?? {};
  if (pinnedPlatforms !== undefined && (platform === undefined || !pinnedPlatforms.includes(platform))) {
    return `builds for ${pinnedPlatforms.join(", ")} only`;
  }
  if (spec.driver !== "esphome") return undefined;
  if (pinnedVersions !== undefined && !pinnedVersions.includes(spec.version)) {
    return `builds with ESPHome ${pinnedVersions.join(", ")} only`;
  }
  if (can?.makesEnvironments === true || can?.esphomeVersions.includes(spec.version) === true) return undefined;
  return `has no ESPHome ${spec.version} and makes no environments`;
}
