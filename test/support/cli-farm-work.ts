/**
 * What the agents of a `CliFarm` do. A build does what the first word of its command says, or what its configuration says behind
 * `# build:`: `succeed`, `fail`, `hang`. A flash does what was set for its host.
 */
import { once } from "node:events";
import { gunzipSync } from "node:zlib";
import { digestOf } from "#actor/digest.ts";
import type { Attempt } from "#actor/lane-worker.ts";
import type { Connection } from "#bus/connection.ts";
import { JobLogWriter, publishProgress } from "#bus/job-log.ts";
import { ObjectStore } from "#bus/object-store.ts";
import type { CompileCapabilities } from "#protocol/agent.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import type { Configuration } from "#protocol/ids.ts";
import { addressOfTarget, type DeviceReport, type JobResult, networkOf } from "#protocol/job.ts";
import type { CleanDispatch, CompileDispatch, ConfirmDispatch, Dispatch, UploadDispatch } from "#protocol/messages.ts";
import { objectStores } from "#protocol/names.ts";
import { agentNamed } from "#test/support/farm-builders.ts";

const builder = agentNamed("builder");
const flasher = agentNamed("flasher");

/** What a build that succeeds leaves behind. */
export const image = Buffer.from("the image");

/** `sleeps`, so that nobody answers; `refuses` the password; takes the image and is `silent` afterwards, or goes back to the build before. */
export type DeviceMood = "takes" | "sleeps" | "refuses" | "silent" | "rolls-back";

export class FarmWork {
  /** Lets flashes end that were begun. */
  readonly flashes = Promise.withResolvers<void>();
  /** By host; one that is not here takes everything. */
  readonly moods = new Map<string, DeviceMood>();
  failsCleans = false;
  /** All that agents were given to do. */
  readonly given: Dispatch[] = [];
  readonly #connection: Connection;
  readonly #trees = new Set<Configuration>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** With the trees that builds have left. */
  capabilities(): CompileCapabilities {
    const warm = [...this.#trees].map((configuration) => ({ version: "2026.10.0", configuration }));
    return { esphomeVersions: ["2026.10.0"], makesEnvironments: true, pythons: [], cpus: 2, memoryBytes: 1, warm };
  }

  async run(dispatch: Dispatch, attempt: Attempt): Promise<JobResult> {
    this.given.push(dispatch);
    switch (dispatch.job) {
      case "compile":
        return this.#build(dispatch, attempt);
      case "upload":
        return this.#flash(dispatch, attempt);
      case "confirm":
        return this.#confirm(dispatch);
      case "clean":
        return this.#clean(dispatch);
    }
  }

  async #build(dispatch: CompileDispatch, attempt: Attempt): Promise<JobResult> {
    const { chain, spec, configuration } = dispatch;
    const log = new JobLogWriter(this.#connection, builder, chain, "compile");
    const [word = "", ...rest] = spec.driver === "command" ? spec.argv : [await this.#wordOf(dispatch)];
    this.#trees.add(configuration);
    for (const line of [`${word} begins`, ...rest]) log.line(line);
    publishProgress(this.#connection, builder, chain, "compile", { v: 1, phase: "compiling", percent: 40 });
    if (word === "hang" && !attempt.signal.aborted) await once(attempt.signal, "abort");
    log.line(`${word} ends`);
    await log.close();
    if (word === "hang") return { kind: "stopped" };
    if (word === "fail") {
      const tail = ["src/main.c:3:1: error: expected ';'", "make: *** [all] Error 1\u001b[31m"];
      return { kind: "failed", failure: { kind: "compiler-exit", exitCode: 2, tail } };
    }
    await new ObjectStore(this.#connection, objectStores.artifacts).put(digestOf(image), image);
    return { kind: "built", manifest: manifestFor(dispatch), buildMs: 5 };
  }

  async #wordOf({ spec }: CompileDispatch): Promise<string> {
    const bundle = await new ObjectStore(this.#connection, objectStores.bundles).get(spec.bundle);
    if (!bundle.ok) throw new Error(`the bundle is ${bundle.found}`);
    return /# build: (\w+)/.exec(gunzipSync(bundle.bytes).toString())?.[1] ?? "succeed";
  }

  async #flash({ chain, target, manifest }: UploadDispatch, attempt: Attempt): Promise<JobResult> {
    const address = addressOfTarget(target);
    const log = new JobLogWriter(this.#connection, flasher, chain, "upload");
    log.line(`asking ${address}`);
    await log.close();
    const mood = this.moods.get(networkOf(target)?.host ?? "");
    if (mood === "sleeps") {
      return { kind: "failed", failure: { kind: "device-unreachable", address, detail: "no answer" } };
    }
    if (mood === "refuses") {
      return { kind: "failed", failure: { kind: "auth-rejected", address, detail: "no" } };
    }
    if ((await attempt.claimFlash()) !== "go") return { kind: "stopped" };
    if (mood === "silent") {
      return { kind: "failed", failure: { kind: "not-verified", address, detail: "silence", effect: "committed" } };
    }
    await this.flashes.promise;
    return { kind: "flashed", level: "running", wrote: true, flashMs: 5, report: reportOf(target.name, manifest) };
  }

  #confirm({ target, manifest }: ConfirmDispatch): JobResult {
    const address = addressOfTarget(target);
    if (this.moods.get(target.host) !== "rolls-back")
      return { kind: "confirmed", report: reportOf(target.name, manifest) };
    const wanted = manifest.esphome?.buildTimeStr ?? "?";
    return { kind: "failed", failure: { kind: "rolled-back", address, wanted, found: "the build before" } };
  }

  #clean({ trees, configuration }: CleanDispatch): JobResult {
    if (this.failsCleans) return { kind: "failed", failure: { kind: "internal", detail: "trees do not fall" } };
    const gone = [...this.#trees].filter((tree) => trees === "all" || tree === configuration);
    for (const tree of gone) this.#trees.delete(tree);
    return { kind: "cleaned", trees: gone.length };
  }
}

function reportOf(name: string, manifest: ArtifactManifest): DeviceReport {
  const compilationTime = manifest.esphome?.buildTimeStr ?? "2026-11-25 12:00:00 +0000";
  return { name, mac: "AA:BB:CC:DD:EE:FF", compilationTime, esphomeVersion: "2026.10.0" };
}

/** Each build says another time. */
function buildOf(name: string, chain: string): NonNullable<ArtifactManifest["esphome"]> {
  const buildTimeStr = `2026-11-25 12:00:00 +0000, ${chain}`;
  return { name, configHash: "0x00000000", buildTime: 0, buildTimeStr, esphomeVersion: "2026.10.0" };
}

function manifestFor({ spec, chain, configuration }: CompileDispatch): ArtifactManifest {
  const isEsphome = spec.driver === "esphome";
  const role = isEsphome ? "ota" : "other";
  const name = isEsphome ? "firmware.ota.bin" : "firmware.bin";
  return {
    v: 1,
    tool: { name: "succeed", version: "unknown" },
    platform: isEsphome ? "esp32" : spec.platform,
    images: [{ role, name, digest: digestOf(image), bytes: image.length }],
    ...(isEsphome ? { esphome: buildOf(configuration, chain) } : {}),
  };
}
