/**
 * One upload job: its image comes, its device is asked, flashed once, and asked again.
 *
 * 1. No byte of an image leaves before the flash claim of this attempt was answered with `go`.
 * 2. A device that already runs the build is left alone; one that is another device is never flashed.
 * 3. What a flash that broke off did to the device is settled by the device's own word, and by nothing else.
 */
import type { Clock } from "#actor/clock.ts";
import type { Attempt, JobHandler } from "#actor/lane-worker.ts";
import { inStage, type StageOptions } from "#actor/stage.ts";
import type { ArtifactManifest, EsphomeBuild, Image } from "#protocol/artifact.ts";
import { describeFailure, effectOf, type Failure, retryOf } from "#protocol/failure.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { attemptsMax, backoffMs, type Stage, stageLimits, type StageLimits } from "#protocol/limits.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Progress, UploadDispatch } from "#protocol/messages.ts";
import type { JobLogWriter } from "#bus/job-log.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import { transferWithin } from "#bus/object-transfer.ts";
import { reachDevice } from "#upload-agent/device-connection.ts";
import type { FlashEvent, FlashResult } from "#upload-agent/flasher.ts";
import { flashOverTheAir } from "#upload-agent/ota.ts";
import { addressOf } from "#upload-agent/ota-failure.ts";
import { type Probe, probeBefore, waitUntilRunning } from "#upload-agent/probe.ts";

export interface UploadServices {
  readonly artifacts: Pick<ObjectStore, "get">;
  readonly clock: Clock;
  readonly limits?: StageLimits;
  openLog(chain: ChainId, job: JobName): Pick<JobLogWriter, "line" | "close">;
  say(chain: ChainId, job: JobName, progress: Progress): void;
}

/** How the upload lane does a job. */
export function uploadHandler(services: UploadServices): JobHandler {
  return async (dispatch, attempt) => {
    if (dispatch.job !== "upload") {
      return failed({ kind: "internal", detail: `a ${dispatch.job} job came down the upload lane` });
    }
    const log = services.openLog(dispatch.chain, dispatch.job);
    const upload = new Upload(services, dispatch, attempt, (line) => log.line(line));
    try {
      const result = dispatch.mode === "probe" ? await upload.ask() : await upload.flash();
      if (result.kind === "failed") log.line(describeFailure(result.failure));
      if (result.kind === "stopped") log.line("stopped before anything was sent to the device");
      return result;
    } finally {
      await log.close();
    }
  };
}

class Upload {
  readonly #services: UploadServices;
  readonly #dispatch: UploadDispatch;
  readonly #attempt: Attempt;
  readonly #line: (text: string) => void;
  readonly #limits: StageLimits;
  readonly #address: string;
  readonly #startedAt: number;

  constructor(services: UploadServices, dispatch: UploadDispatch, attempt: Attempt, line: (text: string) => void) {
    this.#services = services;
    this.#dispatch = dispatch;
    this.#attempt = attempt;
    this.#line = line;
    this.#limits = services.limits ?? stageLimits;
    this.#address = addressOf(dispatch.target);
    this.#startedAt = services.clock.monotonic();
  }

  /** Probe mode: an earlier attempt may have flashed; the device is asked, and nothing is sent to it. */
  async ask(): Promise<JobResult> {
    const { manifest } = this.#dispatch;
    if (manifest.esphome === undefined)
      return failed(this.#notVerified("the build does not say how to recognise it", "uncertain"));
    this.#line(`an earlier attempt may have flashed ${this.#address}: asking the device which build it runs`);
    return this.#verdictOf(await this.#verify(manifest.esphome), manifest.esphome, "uncertain");
  }

  async flash(): Promise<JobResult> {
    const { signal } = this.#attempt;
    const image = otaImage(this.#dispatch.manifest);
    if (image === undefined) {
      return failed({ kind: "image-unsuitable", detail: "the build has no image that goes over the air" });
    }
    this.#say({ phase: "fetching" });
    const { artifacts, clock } = this.#services;
    const fetched = await inStage(this.#stage("fetching"), (watch) =>
      transferWithin(watch, clock, (transfer) => artifacts.get(image.digest, transfer)),
    );
    if (fetched.kind !== "done") return fetched;
    if (!fetched.value.ok) {
      const { found } = fetched.value;
      if (found === "missing")
        return failed({ kind: "artifact-missing", detail: `${image.digest} is not in the store` });
      return failed({ kind: "artifact-mismatch", wanted: image.digest, found });
    }
    const checked = await inStage(this.#stage("checking"), async (watch) => ({
      settled: await this.#checkDevice(watch.signal),
    }));
    if (checked.kind !== "done") return checked;
    if (checked.value.settled !== undefined) return checked.value.settled;
    if (signal.aborted) return { kind: "stopped" };
    const claim = await this.#attempt.claimFlash();
    if (claim !== "go") return { kind: "stopped" };
    return this.#flashClaimed(fetched.value.bytes);
  }

  /** Invariant 2. @returns how the job ends without a flash; undefined when the device is to be flashed. */
  async #checkDevice(signal: AbortSignal): Promise<JobResult | undefined> {
    const { target, manifest } = this.#dispatch;
    if (manifest.esphome === undefined) return undefined;
    this.#say({ phase: "checking" });
    const seen = await probeBefore(target, manifest.esphome, { signal });
    switch (seen.answer) {
      case "new":
        this.#line(`${this.#address} already runs this build and is left alone`);
        return this.#flashed(seen, false);
      case "other":
        return failed({
          kind: "wrong-device",
          address: this.#address,
          wanted: this.#wanted(target.formerName),
          found: describeReport(seen),
        });
      case "old":
        this.#line(`${this.#address} runs ${describeReport(seen)}`);
        return undefined;
      case "unreachable":
      case "unknowable":
        this.#line(`${this.#address} cannot be asked which build it runs: ${seen.detail ?? "no answer"}`);
        return this.#checkReach(signal);
    }
  }

  /**
   * Whether the update server answers although the device cannot be asked, e.g. in safe mode. Found out before the claim:
   * an attempt that ends without one can be cancelled and tried again.
   */
  async #checkReach(signal: AbortSignal): Promise<JobResult | undefined> {
    const { target } = this.#dispatch;
    const reach = await reachDevice(target, { withinMs: this.#limits.connecting.totalMs, signal });
    if (reach === undefined || signal.aborted) return undefined;
    return failed({ kind: "device-unreachable", address: this.#address, detail: reach.detail });
  }

  async #flashClaimed(image: Uint8Array): Promise<JobResult> {
    const { target, manifest } = this.#dispatch;
    this.#line(`flashing ${this.#address}, ${image.length} bytes`);
    const result = await this.#send(target, image);
    if (result.ok) {
      this.#line(
        `the device took the image (${result.wireBytes} bytes on the wire, compression ${result.compression})`,
      );
      if (manifest.esphome === undefined) return this.#committed();
      const seen = await this.#verify(manifest.esphome);
      return seen.answer === "unknowable" ? this.#committed() : this.#verdictOf(seen, manifest.esphome, "committed");
    }
    // Invariant 3.
    if (effectOf(result.failure) !== "uncertain" || manifest.esphome === undefined) return failed(result.failure);
    this.#line(`${describeFailure(result.failure)}: asking the device`);
    const seen = await this.#verify(manifest.esphome);
    if (seen.answer === "old") return failed(withoutEffect(result.failure));
    return seen.answer === "new" ? this.#flashed(seen, true) : failed(result.failure);
  }

  /** Only what broke off before the first byte is tried again, each time with the coordinator's word anew. */
  async #send(target: OtaTarget, image: Uint8Array): Promise<FlashResult> {
    const { clock } = this.#services;
    const { flashing, connecting, negotiating } = this.#limits;
    const until = clock.monotonic() + flashing.totalMs;
    const limits = {
      connectMs: connecting.totalMs,
      handshakeMs: negotiating.totalMs,
      ...(flashing.silenceMs === undefined ? {} : { silenceMs: flashing.silenceMs }),
    };
    for (let left = attemptsMax - 1; ; left--) {
      this.#say({ phase: "flashing", percent: 0 });
      const result = await flashOverTheAir(target, image, {
        signal: this.#attempt.signal,
        deadlineMs: until - clock.monotonic(),
        limits,
        mayStart: () => this.#attempt.mayStart(),
        onEvent: (event) => this.#hear(event),
      });
      const mayRetry = !result.ok && effectOf(result.failure) === "none" && retryOf(result.failure) === "later";
      if (!mayRetry || left === 0 || clock.monotonic() + backoffMs >= until) return result;
      this.#line(`${describeFailure(result.failure)}: trying again in ${backoffMs / 1000} s`);
      await clock.pause(backoffMs, this.#attempt.signal);
      if (this.#attempt.signal.aborted || (await this.#attempt.claimFlash()) !== "go") return result;
    }
  }

  /** Waits for the device to come back and say what it runs; not even a shutdown breaks that off. */
  async #verify(build: EsphomeBuild): Promise<Probe> {
    this.#say({ phase: "verifying" });
    const signal = this.#dispatch.mode === "probe" ? this.#attempt.signal : new AbortController().signal;
    return waitUntilRunning(this.#dispatch.target, build, {
      withinMs: this.#limits.verifying.totalMs,
      clock: this.#services.clock,
      signal,
    });
  }

  #verdictOf(seen: Probe, build: EsphomeBuild, effect: "uncertain" | "committed"): JobResult {
    switch (seen.answer) {
      case "new":
        return this.#flashed(seen, true);
      case "old":
        return failed({
          kind: "not-running",
          address: this.#address,
          wanted: describeBuild(build),
          found: describeReport(seen),
        });
      case "other":
        return failed({
          kind: "not-running",
          address: this.#address,
          wanted: this.#wanted(),
          found: describeReport(seen),
        });
      case "unreachable":
      case "unknowable":
        return this.#attempt.signal.aborted && this.#dispatch.mode === "probe"
          ? { kind: "stopped" }
          : failed(this.#notVerified(seen.detail ?? "no answer", effect));
    }
  }

  #flashed(seen: Probe, wrote: boolean): JobResult {
    this.#line(`${this.#address} runs ${describeReport(seen)}`);
    const report = seen.report === undefined ? {} : { report: seen.report };
    return { kind: "flashed", level: "running", wrote, flashMs: this.#elapsedMs(), ...report };
  }

  #committed(): JobResult {
    this.#line("the device acknowledged the image; which build it runs cannot be asked");
    return { kind: "flashed", level: "committed", wrote: true, flashMs: this.#elapsedMs() };
  }

  #notVerified(detail: string, effect: "uncertain" | "committed"): Failure {
    return { kind: "not-verified", address: this.#address, detail, effect };
  }

  #hear(event: FlashEvent): void {
    switch (event.kind) {
      case "phase":
        this.#line(event.phase);
        break;
      case "negotiated":
        this.#line(`protocol ${event.version}, compression ${event.compression}, password ${event.authentication}`);
        break;
      case "progress":
        this.#say({ phase: "flashing", percent: Math.floor((100 * event.sentBytes) / event.totalBytes) });
        break;
    }
  }

  #stage(stage: Stage): StageOptions {
    return { stage, limits: this.#limits, clock: this.#services.clock, signal: this.#attempt.signal };
  }

  #say(progress: Omit<Progress, "v">): void {
    this.#services.say(this.#dispatch.chain, this.#dispatch.job, { v: 1, ...progress });
  }

  /** @param formerName of a device that may not have its new name yet */
  #wanted(formerName?: string): string {
    const { name, mac } = this.#dispatch.target;
    const names = formerName === undefined ? name : `${formerName} or ${name}`;
    return mac === undefined ? names : `${names} (${mac})`;
  }

  #elapsedMs(): number {
    return Math.round(this.#services.clock.monotonic() - this.#startedAt);
  }
}

function otaImage(manifest: ArtifactManifest): Image | undefined {
  return manifest.images.find((image) => image.role === "ota");
}

function describeBuild(build: EsphomeBuild): string {
  return `${build.name}, ESPHome ${build.esphomeVersion}, built ${build.buildTimeStr}`;
}

function describeReport({ report }: Probe): string {
  if (report === undefined) return "an unknown build";
  return `${report.name} (${report.mac}), ESPHome ${report.esphomeVersion}, built ${report.compilationTime}`;
}

/** The device itself says that it kept its old build. */
function withoutEffect(failure: Failure): Failure {
  return "effect" in failure ? { ...failure, effect: "none" } : failure;
}

function failed(failure: Failure): JobResult {
  return { kind: "failed", failure };
}
