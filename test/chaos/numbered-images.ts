/**
 * An image of its own for every request, so that a session at a device tells by itself which request it served.
 *
 * - For an upload: the factory's program with another build time in it, which costs no compiler. The program is ESPHome's
 *   own, runs, and reports that time; the time is the request's number in seconds since 2001.
 * - For an install: a configuration with the number in a text that the compiler keeps. All editions of a device are one
 *   bundle with other digits in it; the build on a warm tree takes seconds.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import type { Digest } from "#protocol/ids.ts";
import { canonicalGzip } from "#toolchain/archive.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { factoryProgram, type RealDevice, testCacheFolder } from "#test/support/real-device.ts";

export const esphomeVersion = "2026.10.0";

const stampPattern = /20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \+0000/g;
const firstStampAt = Date.UTC(2001, 0, 1);
const digits = 6;

export interface NumberedImage {
  readonly bytes: Buffer;
  readonly manifest: ArtifactManifest;
  readonly identity: ImageIdentity;
}

/** How an image is recognised: on the wire by its MD5, in a device by the digest of the program that it runs. */
export interface ImageIdentity {
  readonly number: number;
  readonly digest: Digest;
  readonly md5: string;
}

export class NumberedImages {
  readonly #factory: Buffer;
  readonly #stampAt: number;
  /** The tar of each device's bundle, with zeros where the number stands. */
  readonly #bundles: ReadonlyMap<string, Buffer>;

  private constructor(factory: Buffer, stampAt: number, bundles: ReadonlyMap<string, Buffer>) {
    this.#factory = factory;
    this.#stampAt = stampAt;
    this.#bundles = bundles;
  }

  static async make(devices: readonly RealDevice[], folder: string): Promise<NumberedImages> {
    const factory = await readFile(await factoryProgram());
    const stamps = [...factory.toString("latin1").matchAll(stampPattern)];
    if (stamps.length !== 1) throw new Error(`the factory's program has ${stamps.length} build times`);
    const environments = new EsphomeEnvironments({ cacheFolder: testCacheFolder, clock: systemClock });
    const made = await environments.ensure(esphomeVersion);
    if (!made.ok) throw new Error(`no ESPHome: ${JSON.stringify(made)}`);
    await mkdir(folder, { recursive: true });
    const bundles = new Map<string, Buffer>();
    for (const device of devices) {
      const file = join(folder, entryOf(device.name));
      await writeFile(file, device.yaml({ edition: 0, code: `ESP_LOGI("number", "${markOf(device.name, 0)}");` }));
      const bundle = await makeBundle(made.env, file);
      if (!bundle.ok) throw new Error(`no bundle of ${file}: ${JSON.stringify(bundle)}`);
      bundles.set(device.name, gunzipSync(bundle.bytes));
    }
    return new NumberedImages(factory, stamps[0]?.index ?? 0, bundles);
  }

  forUpload(device: string, number: number): NumberedImage {
    const bytes = Buffer.from(this.#factory);
    const at = firstStampAt + number * 1000;
    const stamp = `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} +0000`;
    bytes.write(stamp, this.#stampAt, "latin1");
    const identity = identityOf(bytes, number);
    const manifest: ArtifactManifest = {
      v: 1,
      tool: { name: "esphome", version: esphomeVersion },
      platform: "host",
      images: [{ role: "ota", name: "program", digest: identity.digest, bytes: bytes.length }],
      esphome: {
        name: device,
        configHash: number.toString(16).padStart(8, "0"),
        buildTime: at / 1000,
        buildTimeStr: stamp,
        esphomeVersion,
      },
    };
    return { bytes, manifest, identity };
  }

  /** The bundle whose build has the number in it. */
  forInstall(
    device: string,
    number: number,
  ): { readonly bytes: Buffer; readonly digest: Digest; readonly entry: string } {
    const tar = Buffer.from(this.#bundles.get(device) ?? "");
    const at = tar.indexOf(markOf(device, 0));
    tar.write(markOf(device, number), at, "latin1");
    const bytes = canonicalGzip(tar);
    return { bytes, digest: digestOf(bytes), entry: entryOf(device) };
  }
}

/** Which request a built image belongs to; undefined for one that is not of this run's installs. */
export function builtIdentity(bytes: Buffer): ImageIdentity | undefined {
  const found = /request (\d+) for [\w-]+/.exec(bytes.toString("latin1"));
  return found === null ? undefined : identityOf(bytes, Number(found[1]));
}

function identityOf(bytes: Buffer, number: number): ImageIdentity {
  return { number, digest: digestOf(bytes), md5: createHash("md5").update(bytes).digest("hex") };
}

function markOf(device: string, number: number): string {
  return `request ${String(number).padStart(digits, "0")} for ${device}`;
}

function entryOf(device: string): string {
  return `${device}.yaml`;
}
