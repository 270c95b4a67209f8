/** Makes the bundle of an ESPHome configuration: all that its build needs, secrets included. */
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import type { Digest } from "#protocol/ids.ts";
import { digestOf } from "#actor/digest.ts";
import { bundleLimits, canonicalGzip, gunzipBounded, readArchive, type ArchiveLimits } from "#toolchain/archive.ts";
import { failed, fileFailure, type Attempt, type Stop } from "#toolchain/attempt.ts";
import { lostSecrets } from "#toolchain/bundle-secrets.ts";
import type { EsphomeEnvironment } from "#toolchain/esphome-environment.ts";
import { runEsphome } from "#toolchain/esphome-command.ts";

/** `esphome bundle` takes 0.3 s; external components are fetched from git first, with ESPHome's own three attempts. */
export const configurationSilenceMsMax = 5 * 60_000;
export const configurationTotalMsMax = 15 * 60_000;

export interface Bundle {
  readonly bytes: Buffer;
  readonly digest: Digest;
  /** Paths inside the bundle, sorted. */
  readonly files: readonly string[];
}

export interface MakeBundleOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onLine?: ((line: string) => void) | undefined;
  readonly limits?: ArchiveLimits;
}

/**
 * Runs `esphome bundle` where the configuration is. The bytes depend on the files, on ESPHome's version and on the folder's
 * path (ESPHome's manifest names it, to translate absolute paths on the build machine); never on the time.
 * @returns the bundle and `entry`, the configuration's path inside it. Failures: `config-invalid` with ESPHome's own lines
 * (also for a missing file), `bundle-refused` (too large, or a secret that ESPHome would lose), `toolchain-missing`.
 */
export async function makeBundle(
  env: EsphomeEnvironment,
  yamlFile: string,
  options: MakeBundleOptions = {},
): Promise<Attempt<Bundle & { readonly entry: string }>> {
  const file = resolve(yamlFile);
  const missing = await missingConfiguration(file);
  if (missing !== undefined) return missing;
  const [folder, entry] = [dirname(file), basename(file)];
  // Readable by this user only: the bundle holds secrets.
  const place = await mkdtemp(join(tmpdir(), "flashyard-bundle-"));
  const made = join(place, "bundle.tar.gz");
  try {
    const run = await runEsphome({
      env,
      args: ["bundle", "--output", made, entry],
      folder,
      silenceMs: configurationSilenceMsMax,
      totalMs: configurationTotalMsMax,
      signal: options.signal,
      onLine: options.onLine,
    });
    if (!run.ok) return withoutBundleCommand(run, env.version);
    const raw = await readFile(made).catch(() => undefined);
    if (raw === undefined) return invalid(`${entry} is no configuration: ESPHome made no bundle of it`);
    const limits = options.limits ?? bundleLimits;
    const bundle = await canonical(raw, limits);
    if (!bundle.ok) return bundle;
    const lost = (await lostSecrets(bundle.contents, folder))[0];
    if (lost !== undefined) {
      return refused(
        `ESPHome left out the secret ${lost.key}, because it does not see "!secret" inside [ ] or { } ` +
          `(${lost.file}, line ${lost.line}): write it in block style, "!secret ${lost.key}" last on a line of its own`,
      );
    }
    return { ok: true, bytes: bundle.bytes, digest: bundle.digest, files: bundle.files, entry };
  } catch (error) {
    return failed(fileFailure(error, place));
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

/** A missing file as ESPHome would report it, or a folder that it would stumble over. */
export async function missingConfiguration(file: string): Promise<Stop | undefined> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isFile() === true) return undefined;
  return invalid(found === undefined ? `${file}: there is no such file` : `${file} is not a file`);
}

function invalid(line: string): Stop {
  return failed({ kind: "config-invalid", exitCode: 2, tail: [line.slice(0, 400)] });
}

function refused(reason: string): Stop {
  return failed({ kind: "bundle-refused", reason });
}

/** Releases without `esphome bundle` answer with argparse's exit code 2, which is not the configuration's fault. */
function withoutBundleCommand(stop: Stop, version: string): Stop {
  if (stop.aborted || stop.failure.kind !== "config-invalid") return stop;
  const isUnknown = stop.failure.tail.some((line) => line.includes("invalid choice: 'bundle'"));
  return isUnknown ? refused(`ESPHome ${version} cannot make bundles; use a newer release`) : stop;
}

type Canonical = Bundle & { readonly contents: ReadonlyMap<string, Buffer> };

/** Recompresses without a time stamp, and applies to our own bundles the rules that the receiver will apply. */
async function canonical(raw: Buffer, limits: ArchiveLimits): Promise<Attempt<Canonical>> {
  const tar = gunzipBounded(raw, limits.unpackedBytesMax + limits.filesMax * 2_048 + 1_048_576);
  if (tar === undefined) return refused(`it is larger than ${limits.unpackedBytesMax} bytes unpacked`);
  const bytes = canonicalGzip(tar);
  const contents = new Map<string, Buffer>();
  const refusal = await readArchive(bytes, limits, ({ path, kind }) => {
    if (kind === "folder") return undefined;
    const chunks: Buffer[] = [];
    return { write: (chunk) => chunks.push(chunk), close: () => contents.set(path, Buffer.concat(chunks)) };
  });
  if (refusal !== undefined) return refused(refusal);
  return { ok: true, bytes, digest: digestOf(bytes), files: [...contents.keys()].toSorted(), contents };
}
