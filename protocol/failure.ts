/**
 * Everything that is expected to go wrong with a job, as values with facts. Classify where it happens; above that, only
 * switch. `retryOf` is the one place that says whether trying again helps, `describeFailure` the one place with sentences.
 */
import { z } from "zod";
import type { Stage } from "#protocol/limits.ts";

/** What a failed upload may have done to the device. Only `none` may ever be repeated without asking the device. */
export const Effect = z.enum(["none", "partial", "uncertain", "committed"]);
export type Effect = z.infer<typeof Effect>;

/**
 * Why nobody knows who built an artifact. `unsigned`: nobody says it; `not-genuine`: not the key's owner has signed that; `other-artifact`,
 * `other-job`: the statement is of another one; `unknown-builder`, `revoked-builder`: the key is that of no agent, or of one that was
 * thrown out; `not-vouched`: the farm has not signed for the builder.
 */
export const ProvenanceFault = z.enum([
  "unsigned",
  "not-genuine",
  "other-artifact",
  "other-job",
  "unknown-builder",
  "revoked-builder",
  "not-vouched",
]);
export type ProvenanceFault = z.infer<typeof ProvenanceFault>;

/** Last lines of a tool, oldest first: at most 40 lines of 400 characters. */
const Tail = z.array(z.string().max(400)).max(40);

export const Failure = z.discriminatedUnion("kind", [
  /** The tool refused the configuration (ESPHome's exit code 2): the same input fails again everywhere. */
  z.object({ kind: z.literal("config-invalid"), exitCode: z.number(), tail: Tail }),
  /** The compiler or the build script failed (ESPHome's exit code 1). */
  z.object({ kind: z.literal("compiler-exit"), exitCode: z.number(), tail: Tail }),
  /** The toolchain could not be had on this machine: no Python, no g++, a download that failed. */
  z.object({ kind: z.literal("toolchain-missing"), missing: z.string(), detail: z.string() }),
  /** The wanted version of a tool does not exist. */
  z.object({ kind: z.literal("version-unknown"), tool: z.string(), version: z.string(), detail: z.string() }),
  z.object({ kind: z.literal("bundle-refused"), reason: z.string() }),
  z.object({ kind: z.literal("artifact-missing"), detail: z.string() }),
  z.object({ kind: z.literal("artifact-mismatch"), wanted: z.string(), found: z.string() }),
  /** Who built it is not proven; `agent`: who reported it, where that was when it was built. */
  z.object({ kind: z.literal("provenance-refused"), fault: ProvenanceFault, agent: z.string().optional() }),
  z.object({ kind: z.literal("disk-full"), path: z.string() }),
  /** The build took more of its machine than the machine's owner lets it; `limit` and `used` are bytes, or processes. */
  z.object({
    kind: z.literal("limit-exceeded"),
    resource: z.enum(["memory", "processes", "disk"]),
    limit: z.number(),
    used: z.number(),
  }),
  /** `silence`: no sign of life for the limit; `total`: longer than the stage may take in all. */
  z.object({
    kind: z.literal("deadline"),
    /** One of `stageLimits`; absent in records of older versions. Text, so that a coordinator can read a newer agent's. */
    stage: z.string().max(40).optional(),
    limit: z.enum(["silence", "total"]),
    limitMs: z.number(),
    effect: Effect,
  }),
  z.object({ kind: z.literal("agent-lost"), agent: z.string(), effect: Effect }),
  z.object({ kind: z.literal("device-unreachable"), address: z.string(), detail: z.string() }),
  /** The connection broke; `phase` says where, `effect` what that means for the device. */
  z.object({
    kind: z.literal("upload-interrupted"),
    address: z.string(),
    phase: z.string(),
    effect: Effect,
    sentBytes: z.number(),
    totalBytes: z.number(),
    detail: z.string(),
  }),
  z.object({ kind: z.literal("auth-rejected"), address: z.string(), detail: z.string() }),
  /** The device answered with one of the OTA protocol's error bytes. */
  z.object({
    kind: z.literal("device-refused"),
    address: z.string(),
    code: z.number(),
    meaning: z.string(),
    phase: z.string(),
    effect: Effect,
  }),
  /** The device speaks something else than the protocol expects. */
  z.object({ kind: z.literal("protocol"), address: z.string(), phase: z.string(), detail: z.string(), effect: Effect }),
  z.object({ kind: z.literal("encryption-required"), address: z.string(), detail: z.string() }),
  /** Another device answers at the address, or is at the port. */
  z.object({
    kind: z.literal("wrong-device"),
    address: z.string(),
    wanted: z.string(),
    found: z.string(),
    /** Which device a person would have to make forgotten; absent in older records. */
    configuration: z.string().optional(),
  }),
  /** Flashed and acknowledged, but the device still reports another build. */
  z.object({ kind: z.literal("not-running"), address: z.string(), wanted: z.string(), found: z.string() }),
  /** The device acknowledged or may have taken the image, and then nobody could ask it. */
  z.object({ kind: z.literal("not-verified"), address: z.string(), detail: z.string(), effect: Effect }),
  /** The device took the image, and later went back to the build before. */
  z.object({ kind: z.literal("rolled-back"), address: z.string(), wanted: z.string(), found: z.string() }),
  /** The image is older than what the device runs, and nobody asked for that. */
  z.object({ kind: z.literal("downgrade-refused"), address: z.string(), wanted: z.string(), found: z.string() }),
  /** The port is not there: nothing is plugged in. */
  z.object({ kind: z.literal("port-missing"), port: z.string(), detail: z.string() }),
  /** Another program has the port. */
  z.object({ kind: z.literal("port-busy"), port: z.string(), detail: z.string() }),
  /** The chip at the port, or the chip that the image is for, is another one; found out before anything was written. */
  z.object({ kind: z.literal("chip-mismatch"), port: z.string(), wanted: z.string(), found: z.string() }),
  /** The program that writes over the port failed; `phase` says where, `effect` what that means for the device. */
  z.object({
    kind: z.literal("flasher-failed"),
    tool: z.string(),
    port: z.string(),
    phase: z.string(),
    /** Absent for a program that did not end by itself. */
    exitCode: z.number().optional(),
    effect: Effect,
    tail: Tail,
  }),
  /** What runs must be dead before trees are taken away, and nobody proved it in time. */
  z.object({ kind: z.literal("death-unproven"), job: z.string(), agent: z.string(), waitedMs: z.number() }),
  /** A clean could not take a tree away; `isOut`: no build will find it any more, only its files are still there. */
  z.object({
    kind: z.literal("tree-stuck"),
    path: z.string(),
    /** The system's own: EBUSY, EACCES, ENOSPC, … */
    code: z.string(),
    detail: z.string(),
    isOut: z.boolean(),
    /** Trees that are gone all the same. */
    trees: z.number().int().nonnegative(),
  }),
  z.object({ kind: z.literal("image-unsuitable"), detail: z.string() }),
  /** Under way in a backup of this instant (ms since 1970), from which the farm was restored. */
  z.object({ kind: z.literal("farm-restored"), backupAt: z.number(), effect: Effect }),
  /** Sealed to keys that the agent has no more, or never had. */
  z.object({ kind: z.literal("secrets-unreadable"), detail: z.string() }),
  z.object({ kind: z.literal("internal"), detail: z.string() }),
]);
export type Failure = z.infer<typeof Failure>;

export type RetryClass = "never" | "elsewhere" | "later";

/** Whether the same job can succeed when it is tried again: not at all, on another agent, or after a pause. */
export function retryOf(failure: Failure): RetryClass {
  switch (failure.kind) {
    case "config-invalid":
    case "compiler-exit":
    case "version-unknown":
    case "bundle-refused":
    case "artifact-missing":
    case "artifact-mismatch":
    case "provenance-refused":
    case "auth-rejected":
    case "device-refused":
    case "protocol":
    case "encryption-required":
    case "wrong-device":
    case "not-running":
    case "not-verified":
    case "image-unsuitable":
    case "rolled-back":
    case "downgrade-refused":
    case "chip-mismatch":
    case "death-unproven":
    case "farm-restored":
    case "internal":
      return "never";
    case "toolchain-missing":
    case "disk-full":
    // Another machine may have more, and its owner may allow more.
    case "limit-exceeded":
      return "elsewhere";
    case "tree-stuck":
      return passingCodes.has(failure.code) ? "later" : "never";
    case "deadline":
      return failure.effect === "none" ? (retryOfStage.get(failure.stage ?? "") ?? "never") : "never";
    case "agent-lost":
      return failure.effect === "none" ? "elsewhere" : "never";
    case "device-unreachable":
    case "port-missing":
    case "port-busy":
    // Sealed anew when it is given out again.
    case "secrets-unreadable":
      return "later";
    case "flasher-failed":
    case "upload-interrupted":
      return failure.effect === "none" ? "later" : "never";
  }
}

/** Of the system's error codes those that pass by themselves: in use, no room, too many open files. */
const passingCodes: ReadonlySet<string> = new Set(["EBUSY", "ENOTEMPTY", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE"]);

/** Stages whose limit says nothing of the next try: the line was stalled, or this machine's disk. What is not here hangs again. */
const retryOfStage: ReadonlyMap<string, RetryClass> = new Map<Stage, RetryClass>([
  ["fetching", "later"],
  ["environment", "elsewhere"],
  ["unpacking", "elsewhere"],
  ["collecting", "elsewhere"],
  ["storing", "later"],
  ["checking", "later"],
]);

/** What the failed job may have done to the device; `none` for everything that happens before the first byte. */
export function effectOf(failure: Failure): Effect {
  return "effect" in failure ? failure.effect : isBuildOfDevice(failure) ? "committed" : "none";
}

const isBuildOfDevice = ({ kind }: Failure): boolean => kind === "not-running" || kind === "rolled-back";

const effectSentence: Readonly<Record<Effect, string>> = {
  none: "the device was not touched",
  partial: "the device holds a partial image and needs another flash",
  uncertain: "whether the device took the image is not known",
  committed: "the device took the image",
};

/** One sentence for a person, from the facts, with the offending value in it. */
export function describeFailure(failure: Failure): string {
  switch (failure.kind) {
    case "config-invalid":
      return `ESPHome refused the configuration (exit code ${failure.exitCode})`;
    case "compiler-exit":
      return `the build failed (exit code ${failure.exitCode})`;
    case "toolchain-missing":
      return `${failure.missing} is missing on the build machine: ${failure.detail}`;
    case "version-unknown":
      return `${failure.tool} ${failure.version} does not exist: ${failure.detail}`;
    case "bundle-refused":
      return `the bundle was refused: ${failure.reason}`;
    case "artifact-missing":
      return `the build left no artifact: ${failure.detail}`;
    case "artifact-mismatch":
      return `the artifact's digest is ${failure.found} but its manifest says ${failure.wanted}; nothing was flashed`;
    case "provenance-refused":
      return describeFault(failure.fault, failure.agent);
    case "disk-full":
      return `the disk is full at ${failure.path}`;
    case "limit-exceeded": {
      const { resource, limit, used } = failure;
      if (resource === "processes") return `the build had ${used} processes; this machine lets it have ${limit}`;
      return `the build took ${used} bytes of ${resource}; this machine lets it have ${limit}`;
    }
    case "deadline": {
      const what = failure.limit === "silence" ? "no sign of life for" : "not done after";
      const where = failure.stage === undefined ? "" : ` (stage: ${failure.stage})`;
      return `${what} ${failure.limitMs / 1000} s${where}; ${effectSentence[failure.effect]}`;
    }
    case "agent-lost":
      return `agent ${failure.agent} was lost while it worked; ${effectSentence[failure.effect]}`;
    case "device-unreachable":
      return `no device answers at ${failure.address}: ${failure.detail}`;
    case "upload-interrupted":
      return `the connection to ${failure.address} broke while ${failure.phase} (${failure.sentBytes} of ${failure.totalBytes} bytes sent): ${failure.detail}; ${effectSentence[failure.effect]}`;
    case "auth-rejected":
      return `the device at ${failure.address} refused this uploader: ${failure.detail}; the device was not touched`;
    case "device-refused":
      return `the device at ${failure.address} answered 0x${failure.code.toString(16).toUpperCase()} while ${failure.phase}: ${failure.meaning}; ${effectSentence[failure.effect]}`;
    case "protocol":
      return `the device at ${failure.address} does not follow the OTA protocol while ${failure.phase}: ${failure.detail}; ${effectSentence[failure.effect]}`;
    case "encryption-required":
      return `the upload to ${failure.address} must be encrypted: ${failure.detail}; the device was not touched`;
    case "wrong-device":
      return `another device answers at ${failure.address}: wanted ${failure.wanted}, found ${failure.found}; nothing was flashed (where the hardware was replaced: \`flashyard device forget ${quoted(failure.configuration ?? "NAME")}\`)`;
    case "not-running":
      return `the device at ${failure.address} reports build ${failure.found}, not ${failure.wanted}`;
    case "rolled-back":
      return `the device at ${failure.address} took build ${failure.wanted} and went back to ${failure.found}`;
    case "downgrade-refused":
      return `the device at ${failure.address} runs ${failure.found}, which is newer than ${failure.wanted}; nothing was flashed`;
    case "port-missing":
      return `there is no port ${failure.port}: ${failure.detail}; the device was not touched`;
    case "port-busy":
      return `another program has the port ${failure.port}: ${failure.detail}; the device was not touched`;
    case "chip-mismatch":
      return `the chip at ${failure.port} is ${failure.found}, not ${failure.wanted}; nothing was written`;
    case "flasher-failed": {
      const how = failure.exitCode === undefined ? "was ended" : `failed (exit code ${failure.exitCode})`;
      return `${failure.tool} ${how} at ${failure.port} while ${failure.phase}; ${effectSentence[failure.effect]}`;
    }
    case "not-verified":
      return `the device at ${failure.address} could not be asked which build it runs: ${failure.detail}; ${effectSentence[failure.effect]}`;
    case "tree-stuck":
      return `the build tree ${failure.path} cannot be taken away (${failure.code}: ${failure.detail}); ${failure.isOut ? "no build uses it any more" : "it stands as it was"}; trees gone: ${failure.trees}`;
    case "image-unsuitable":
      return `the artifact does not fit this upload: ${failure.detail}`;
    case "farm-restored":
      return `the farm was restored from a backup of ${instant(failure.backupAt)}, in which this was under way; ${effectSentence[failure.effect]}`;
    case "death-unproven":
      return `${failure.job} on ${failure.agent} was told to end and did not within ${Math.round(failure.waitedMs / 1000)} s; no build tree was touched`;
    case "secrets-unreadable":
      return `the agent cannot open what opens the device: ${failure.detail}`;
    case "internal":
      return `an error inside flashyard: ${failure.detail}`;
  }
}

/** Why an artifact is not flashed, and what to do. @param builder who has just reported it as built; absent when it is to be flashed */
export function describeFault(fault: ProvenanceFault, builder?: string): string {
  if (builder === undefined) return `the artifact is not flashed: ${faultSentences[fault]}`;
  const why =
    fault === "unsigned" ? "it was not signed there; update flashyard on that machine" : faultSentences[fault];
  return `what ${builder} built is not taken: ${why}`;
}

const again = "build it again (`flashyard install` or `build --rebuild`)";
const faultSentences: Readonly<Record<ProvenanceFault, string>> = {
  unsigned: `nobody has signed who built it, as in older versions and in open farms; ${again}`,
  "not-genuine": `its provenance was changed, or signed with another key; see who may write to the farm, and ${again}`,
  "other-artifact": `its provenance is that of another artifact; see who may write to the farm, and ${again}`,
  "other-job": `its provenance is that of another job; ${again}`,
  "unknown-builder": `the key that signed it is that of no agent of this farm; ${again}`,
  "revoked-builder": `the agent that built it was revoked; ${again}`,
  "not-vouched": "the farm has not signed that its builder is one of its agents; update the coordinator and try again",
};

/** An instant as people of any time zone read it. */
export function instant(at: number): string {
  return `${new Date(at).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** As a word of a command line; a configuration's name may have spaces. */
function quoted(name: string): string {
  return name.includes(" ") ? `'${name}'` : name;
}

/** The tool's own last lines, for the failures that have them. */
export function tailOf(failure: Failure): readonly string[] {
  return "tail" in failure ? failure.tail : [];
}
