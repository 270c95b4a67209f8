/**
 * What the agents of the simulation do with a job: builds that take their time and fail in every way, and flashes that follow
 * the rules of the upload agent (ask the device first, flash claim before the first byte, ask again afterwards).
 */
import type { JobHandler, Attempt } from "#actor/lane-worker.ts";
import type { Clock } from "#actor/clock.ts";
import { poll } from "#actor/clock.ts";
import type { Failure } from "#protocol/failure.ts";
import { type Configuration, Digest } from "#protocol/ids.ts";
import { verifyMsMax } from "#protocol/limits.ts";
import { type JobResult, networkOf } from "#protocol/job.ts";
import type { CompileDispatch, ConfirmDispatch, Dispatch, UploadDispatch } from "#protocol/messages.ts";
import { type FlashSession, partsOfImage, type SimulatedDevice } from "#test/simulation/simulated-device.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

export interface WorkOptions {
  readonly world: SimulatedWorld;
  readonly deviceAt: (host: string) => SimulatedDevice;
  readonly buildMsMax: number;
  /** Share of builds that fail. */
  readonly failureChance: () => number;
  /** True for a configuration of which every build is the same one, as an unchanged rebuild is. */
  readonly isUnchanged: (configuration: Configuration) => boolean;
}

/** The build that a manifest is of, as the device would say it. */
export function buildNamed(dispatch: UploadDispatch | ConfirmDispatch): string {
  return dispatch.manifest.esphome?.buildTimeStr ?? "?";
}

const stopped: JobResult = { kind: "stopped" };
const failed = (failure: Failure): JobResult => ({ kind: "failed", failure });

export function makeWork(options: WorkOptions, process: SimulatedProcess): JobHandler {
  return async (dispatch: Dispatch, attempt: Attempt) => {
    const { watcher } = options.world;
    watcher.began(process, dispatch);
    try {
      return await workOn(options, process, dispatch, attempt);
    } finally {
      watcher.ended(dispatch);
    }
  };
}

function workOn(options: WorkOptions, process: SimulatedProcess, dispatch: Dispatch, attempt: Attempt) {
  switch (dispatch.job) {
    case "compile":
      return compile(options, process, dispatch, attempt);
    case "upload":
      return upload(options, process, dispatch, attempt);
    case "confirm":
      return confirm(options, process, dispatch, attempt);
    case "clean":
      return clean(options, process, attempt);
  }
}

async function compile(
  { world, buildMsMax, failureChance, isUnchanged }: WorkOptions,
  process: SimulatedProcess,
  { chain, attempt: number, configuration }: CompileDispatch,
  attempt: Attempt,
): Promise<JobResult> {
  const { random } = world;
  const { signal } = attempt;
  const durationMs = random.between(200, buildMsMax);
  if (!(await process.clock.pause(durationMs, signal))) {
    await process.clock.pause(random.between(10, 2_000));
    return stopped;
  }
  if (random.chance(failureChance())) {
    const kind = random.pick(["exit", "exit", "elsewhere", "throws"] as const);
    switch (kind) {
      case "exit":
        return failed({ kind: "compiler-exit", exitCode: 1, tail: [] });
      case "elsewhere":
        return failed({ kind: "toolchain-missing", missing: "g++", detail: "not found" });
      case "throws":
        throw new RangeError("a bug in the handler");
    }
  }
  await attempt.release();
  const isStored = await process.clock.pause(random.between(0, storeMsMax), signal);
  if (!isStored) return stopped;
  const build = isUnchanged(configuration) ? `${configuration}, always the same` : `${chain}, attempt ${number}`;
  const manifest = {
    v: 1 as const,
    tool: { name: "esphome", version: "2026.10.0" },
    platform: "esp32",
    images: [{ role: "ota" as const, name: "firmware.ota.bin", digest: anyDigest, bytes: 1_000 }],
    esphome: { name: configuration, configHash: "1", buildTime: 1, buildTimeStr: build, esphomeVersion: "2026.10.0" },
  };
  return { kind: "built", manifest, buildMs: durationMs };
}

async function clean(
  { world: { random } }: WorkOptions,
  process: SimulatedProcess,
  { signal }: Attempt,
): Promise<JobResult> {
  const isThrough = await process.clock.pause(random.between(10, 3_000), signal);
  return isThrough ? { kind: "cleaned", trees: 1 } : stopped;
}

/** What a build has made is stored while the next one may run. */
const storeMsMax = 3_000;
const anyDigest = Digest.parse("0".repeat(64));

async function upload(
  { world, deviceAt }: WorkOptions,
  process: SimulatedProcess,
  dispatch: UploadDispatch,
  attempt: Attempt,
): Promise<JobResult> {
  const { random } = world;
  const { clock } = process;
  const address = networkOf(dispatch.target)?.host ?? "";
  const device = deviceAt(address);
  const build = buildNamed(dispatch);
  if (dispatch.mode === "probe") return askOnly(clock, device, build, address);
  if (!(await clock.pause(random.between(20, random.pick([200, 4_000])), attempt.signal))) return stopped;
  const before = device.probe();
  if (before === undefined) return failed({ kind: "device-unreachable", address, detail: "no answer" });
  if (before === build) return { kind: "flashed", level: "running", wrote: false, flashMs: 0 };
  if ((await attempt.claimFlash()) !== "go") return stopped;
  const session = attempt.mayStart() ? device.open(process, { ...dispatch, build }) : undefined;
  if (session === undefined) return failed({ kind: "device-unreachable", address, detail: "not opened" });
  const broken = await send(clock, device, session);
  if (broken !== undefined) return failed({ ...broken, address });
  return verify(clock, device, build, address);
}

async function confirm(
  { deviceAt }: WorkOptions,
  { clock }: SimulatedProcess,
  dispatch: ConfirmDispatch,
  { signal }: Attempt,
): Promise<JobResult> {
  const address = dispatch.target.host;
  const build = buildNamed(dispatch);
  const device = deviceAt(address);
  const found = await poll(clock, { everyMs: 1_000, withinMs: verifyMsMax, signal }, () => device.probe());
  if (signal.aborted) return stopped;
  if (found === build) return { kind: "confirmed" };
  if (found !== undefined) return failed({ kind: "rolled-back", address, wanted: build, found });
  return failed({ kind: "not-verified", address, detail: "no answer", effect: "committed" });
}

/** Writes all parts; undefined when the device has acknowledged the image. */
async function send(clock: Clock, device: SimulatedDevice, session: FlashSession) {
  for (let part = 1; part <= partsOfImage; part += 1) {
    await clock.pause(device.partMs);
    if (device.write(session, part)) continue;
    // Before the last part has left, the old image certainly stays; afterwards only the device can say.
    const isSent = part === partsOfImage;
    return {
      kind: "upload-interrupted" as const,
      phase: isSent ? "committing" : "sending",
      effect: isSent ? ("uncertain" as const) : ("partial" as const),
      sentBytes: part,
      totalBytes: partsOfImage,
      detail: "the connection broke",
    };
  }
  return undefined;
}

async function verify(clock: Clock, device: SimulatedDevice, build: string, address: string): Promise<JobResult> {
  const startedAt = clock.monotonic();
  const found = await poll(clock, { everyMs: 1_000, withinMs: verifyMsMax }, () => device.probe());
  if (found === build)
    return { kind: "flashed", level: "running", wrote: true, flashMs: clock.monotonic() - startedAt };
  if (found !== undefined) return failed({ kind: "not-running", address, wanted: build, found });
  return failed({ kind: "not-verified", address, detail: "no answer", effect: "committed" });
}

async function askOnly(clock: Clock, device: SimulatedDevice, build: string, address: string): Promise<JobResult> {
  const found = await poll(clock, { everyMs: 1_000, withinMs: verifyMsMax }, () => device.probe());
  if (found === build) return { kind: "flashed", level: "running", wrote: false, flashMs: 0 };
  if (found !== undefined) return failed({ kind: "not-running", address, wanted: build, found });
  // What such an agent knows: it could not ask. What the lost attempt did is for the coordinator to judge.
  return failed({ kind: "device-unreachable", address, detail: "no answer" });
}
