/**
 * One upload job: its image comes, its device is asked, flashed once, and asked again.
 *
 * 1. No byte of an image leaves before the flash claim of this attempt was answered with `go`.
 * 2. A device that already runs the build is left alone; one that is another device is never flashed, and none goes back to an older
 *    release of ESPHome unless a person asked for that.
 * 3. What a flash that broke off did to the device is settled by the device's own word, and by nothing else.
 * 4. In a farm with identity nothing is flashed of which it is not proven that an agent of the farm has built it.
 */
import type { KeyObject } from "node:crypto";
import type { Clock } from "#actor/clock.ts";
import type { Attempt, JobHandler } from "#actor/lane-worker.ts";
import { inStage, type StageEnd, type StageOptions } from "#actor/stage.ts";
import type { EsphomeBuild, Image } from "#protocol/artifact.ts";
import { describeFailure, effectOf, type Failure, retryOf } from "#protocol/failure.ts";
import type { ChainId, Configuration, JobName } from "#protocol/ids.ts";
import { addressOfTarget, type JobResult, networkOf, type OtaTarget } from "#protocol/job.ts";
import { attemptsMax, backoffMs, type Stage, stageLimits, type StageLimits } from "#protocol/limits.ts";
import type { Progress, UploadDispatch } from "#protocol/messages.ts";
import { compareReleases } from "#protocol/release.ts";
import type { JobLogWriter } from "#bus/job-log.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import { transferWithin } from "#bus/object-transfer.ts";
import { confirm } from "#upload-agent/confirm-job.ts";
import { describeBuild, describeReport, describeTerms, describeWanted } from "#upload-agent/device-words.ts";
import type { FlashEvent, FlashResult } from "#upload-agent/flasher.ts";
import { type Probe, probeBefore, waitUntilRunning } from "#upload-agent/probe.ts";
import { checkBuilder } from "#upload-agent/provenance-check.ts";
import type { SerialBench } from "#upload-agent/serial/flash-serial.ts";
import { type FetchedImage, type Way, wayTo } from "#upload-agent/way.ts";

export interface UploadServices {
  readonly artifacts: Pick<ObjectStore, "get">;
  readonly clock: Clock;
  readonly limits?: StageLimits;
  /** The farm's public key, which stands for the builders of what is flashed; absent in an open farm. */
  readonly authority?: KeyObject;
  /** What the machine has for its ports; absent: nothing is flashed over one. */
  readonly serial?: SerialBench;
  openLog(chain: ChainId, job: JobName): Pick<JobLogWriter, "line" | "close">;
  say(chain: ChainId, job: JobName, progress: Progress): void;
}

/** How the upload lane does a job. */
export function uploadHandler(services: UploadServices): JobHandler {
  return async (dispatch, attempt) => {
    if (dispatch.job !== "upload" && dispatch.job !== "confirm") {
      return failed({ kind: "internal", detail: `a ${dispatch.job} job came down the upload lane` });
    }
    const log = services.openLog(dispatch.chain, dispatch.job);
    const line = (text: string) => log.line(text);
    try {
      if (dispatch.job === "confirm") return await confirm(services, dispatch, attempt, line);
      const upload = new Upload(services, dispatch, attempt, line);
      const ended = dispatch.mode === "probe" ? await upload.ask() : await upload.flash();
      const result = withConfiguration(ended, dispatch.configuration);
      if (result.kind === "failed") line(describeFailure(result.failure));
      if (result.kind === "stopped") line("stopped before anything was sent to the device");
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
  readonly #way: Way;
  /** Where the device can be asked; a device on a port may be on no network. */
  readonly #network: OtaTarget | undefined;
  readonly #address: string;
  readonly #startedAt: number;
  /** What the chip at the port has told. */
  #chipMac: string | undefined;

  constructor(services: UploadServices, dispatch: UploadDispatch, attempt: Attempt, line: (text: string) => void) {
    this.#services = services;
    this.#dispatch = dispatch;
    this.#attempt = attempt;
    this.#line = line;
    this.#limits = services.limits ?? stageLimits;
    const { clock, serial } = services;
    const { target, part } = dispatch;
    this.#way = wayTo(target, { limits: this.#limits, clock, serial, part });
    this.#network = networkOf(target);
    this.#address = addressOfTarget(target);
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
    const refused = this.#checkBuilder();
    if (refused !== undefined) return refused;
    const wanted = this.#way.imagesOf(this.#dispatch.manifest);
    if ("kind" in wanted) return failed(wanted);
    this.#say({ phase: "fetching" });
    const images: FetchedImage[] = [];
    for (const image of wanted) {
      const fetched = await this.#fetch(image);
      if (fetched.kind !== "done") return fetched;
      images.push(fetched.value);
    }
    const prepared = await this.#prepare();
    if (prepared !== undefined) return prepared;
    // Over a port a program is asked, which must be dead before anything else happens there.
    const stage = { ...this.#stage("checking"), isAwaited: this.#dispatch.target.kind === "serial" };
    const checked = await inStage(stage, async (watch) => ({
      settled: await this.#checkDevice(watch.signal),
    }));
    if (checked.kind !== "done") return checked;
    if (signal.aborted) return { kind: "stopped" };
    if (checked.value.settled !== undefined) return checked.value.settled;
    const claim = await this.#attempt.claimFlash();
    if (claim !== "go") return { kind: "stopped" };
    return this.#flashClaimed(images);
  }

  /** Invariant 4. */
  #checkBuilder(): JobResult | undefined {
    const { authority } = this.#services;
    if (authority === undefined) return undefined;
    const checked = checkBuilder(authority, this.#dispatch);
    if (!checked.ok) return failed({ kind: "provenance-refused", fault: checked.fault });
    const { agent, chain, bundle } = checked.statement;
    this.#line(`built by ${agent} in ${chain} from ${bundle}; its signature and the farm's hold`);
    return undefined;
  }

  /** @returns how the job ends where the way to the device cannot be had */
  async #prepare(): Promise<JobResult | undefined> {
    const stage = { ...this.#stage("environment"), isAwaited: true };
    const prepared = await inStage(stage, async ({ signal, moved }) => {
      const onEvent = (event: FlashEvent) => {
        moved();
        this.#hear(event);
      };
      return { failure: await this.#way.prepare({ signal, onEvent }) };
    });
    if (prepared.kind !== "done") return prepared;
    if (this.#attempt.signal.aborted) return { kind: "stopped" };
    return prepared.value.failure === undefined ? undefined : failed(prepared.value.failure);
  }

  async #fetch(image: Image): Promise<StageEnd<FetchedImage>> {
    const { artifacts, clock } = this.#services;
    const fetched = await inStage(this.#stage("fetching"), (watch) =>
      transferWithin(watch, clock, (transfer) => artifacts.get(image.digest, transfer)),
    );
    if (fetched.kind !== "done") return fetched;
    const { value } = fetched;
    if (value.ok) return { kind: "done", value: { image, bytes: value.bytes } };
    const { digest } = image;
    return value.found === "missing"
      ? failed({ kind: "artifact-missing", detail: `${digest} is not in the store` })
      : failed({ kind: "artifact-mismatch", wanted: digest, found: value.found });
  }

  /** Invariant 2. @returns how the job ends without a flash; undefined when the device is to be flashed. */
  async #checkDevice(signal: AbortSignal): Promise<JobResult | undefined> {
    const { esphome } = this.#dispatch.manifest;
    this.#say({ phase: "checking" });
    const network = this.#network;
    const seen =
      esphome === undefined || network === undefined ? undefined : await probeBefore(network, esphome, { signal });
    const settled = seen === undefined || esphome === undefined ? undefined : this.#judge(seen, esphome);
    if (settled !== undefined || signal.aborted) return settled;
    // Over the air, who has answered for itself has been reached.
    if (seen?.answer === "old" && this.#dispatch.target.kind === "ota") return undefined;
    const unreached = await this.#way.reach({ signal, onEvent: (event) => this.#hear(event) });
    return unreached === undefined ? undefined : failed(unreached);
  }

  #judge(seen: Probe, build: EsphomeBuild): JobResult | undefined {
    const { target, part } = this.#dispatch;
    switch (seen.answer) {
      case "new":
        // Of a bootloader the device says nothing.
        if (part !== undefined) return undefined;
        this.#line(`${this.#address} already runs this build and is left alone`);
        return this.#flashed(seen, false);
      case "other": {
        this.#line(`another device answers in the network: ${describeReport(seen)}`);
        // Who is at a port is not said by an address in the network.
        if (target.kind === "serial") return undefined;
        const wanted = describeWanted(target, target.formerName);
        return failed({ kind: "wrong-device", address: this.#address, wanted, found: describeReport(seen) });
      }
      case "old":
        this.#line(`${this.#address} runs ${describeReport(seen)}`);
        return this.#refuseDowngrade(seen, build);
      case "unreachable":
      case "unknowable":
        this.#line(`${this.#address} cannot be asked which build it runs: ${seen.detail ?? "no answer"}`);
        return undefined;
    }
  }

  #refuseDowngrade({ report }: Probe, build: EsphomeBuild): JobResult | undefined {
    const { mayDowngrade, part } = this.#dispatch;
    if (report === undefined || mayDowngrade === true || part !== undefined) return undefined;
    if (compareReleases(build.esphomeVersion, report.esphomeVersion) >= 0) return undefined;
    const [wanted, found] = [`ESPHome ${build.esphomeVersion}`, `ESPHome ${report.esphomeVersion}`];
    return failed({ kind: "downgrade-refused", address: this.#address, wanted, found });
  }

  async #flashClaimed(images: readonly FetchedImage[]): Promise<JobResult> {
    const { manifest, target, part } = this.#dispatch;
    const { esphome } = manifest;
    const bytes = images.reduce((sum, image) => sum + image.bytes.length, 0);
    this.#line(`flashing ${part === undefined ? "" : `the ${part} of `}${this.#address}, ${bytes} bytes`);
    const result = await this.#send(images);
    if (result.ok) {
      this.#line(
        `the device took the image (${result.wireBytes} bytes on the wire, compression ${result.compression})`,
      );
      if (esphome === undefined || part !== undefined) return this.#committed();
      const seen = await this.#verify(esphome);
      // A tool has read back what it wrote to a port; that the device is on no network yet is no failure of the flash.
      const isSilent = seen.answer === "unreachable" && target.kind === "serial";
      return seen.answer === "unknowable" || isSilent ? this.#committed() : this.#verdictOf(seen, esphome, "committed");
    }
    const { failure } = result;
    if (this.#attempt.signal.aborted && effectOf(failure) === "none") return { kind: "stopped" };
    // Invariant 3.
    if (effectOf(failure) !== "uncertain" || esphome === undefined || this.#network === undefined)
      return failed(failure);
    this.#line(`${describeFailure(failure)}: asking the device`);
    const seen = await this.#verify(esphome);
    if (seen.answer === "old") return failed(withoutEffect(failure));
    return seen.answer === "new" ? this.#flashed(seen, true) : failed(failure);
  }

  /** Only what broke off before the first byte is tried again, each time with the coordinator's word anew. */
  async #send(images: readonly FetchedImage[]): Promise<FlashResult> {
    const { clock } = this.#services;
    const until = clock.monotonic() + this.#limits.flashing.totalMs;
    for (let left = attemptsMax - 1; ; left--) {
      this.#say({ phase: "flashing", percent: 0 });
      const result = await this.#way.flash(images, {
        signal: this.#attempt.signal,
        deadlineMs: until - clock.monotonic(),
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
    if (this.#network === undefined) return { answer: "unknowable", detail: "the device is on no network" };
    this.#say({ phase: "verifying" });
    const signal = this.#dispatch.mode === "probe" ? this.#attempt.signal : new AbortController().signal;
    return waitUntilRunning(this.#network, build, {
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
          wanted: this.#network === undefined ? describeBuild(build) : describeWanted(this.#network),
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
    return { kind: "flashed", level: "running", wrote, flashMs: this.#elapsedMs(), ...report, ...this.#chip() };
  }

  #committed(): JobResult {
    this.#line("the device acknowledged the image; which build it runs cannot be asked");
    return { kind: "flashed", level: "committed", wrote: true, flashMs: this.#elapsedMs(), ...this.#chip() };
  }

  #chip(): { readonly chipMac?: string } {
    return this.#chipMac === undefined ? {} : { chipMac: this.#chipMac };
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
        this.#line(describeTerms(event));
        break;
      case "identified": {
        const { chip = "a chip", description = chip, mac } = event.identity;
        this.#chipMac = mac;
        this.#line(`at ${this.#address} is ${description}${mac === undefined ? "" : ` (${mac})`}`);
        break;
      }
      case "line":
        this.#line(event.text);
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

  #elapsedMs(): number {
    return Math.round(this.#services.clock.monotonic() - this.#startedAt);
  }
}

/** Who reads of another device must know under which name the farm would have to forget the one that it expects. */
function withConfiguration(result: JobResult, configuration: Configuration): JobResult {
  if (result.kind !== "failed" || result.failure.kind !== "wrong-device") return result;
  return failed({ ...result.failure, configuration });
}

/** The device itself says that it kept its old build. */
function withoutEffect(failure: Failure): Failure {
  return "effect" in failure ? { ...failure, effect: "none" } : failure;
}

function failed(failure: Failure): { readonly kind: "failed"; readonly failure: Failure } {
  return { kind: "failed", failure };
}
