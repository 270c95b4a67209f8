/** Builds a configuration with ESPHome, in its warm tree and the environment of exactly the wanted version. */
import { rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { ArtifactManifest, Image } from "#protocol/artifact.ts";
import { describeFailure } from "#protocol/failure.ts";
import type { EsphomeBuildSpec } from "#protocol/job.ts";
import { stageLimits } from "#protocol/limits.ts";
import { systemClock } from "#actor/clock.ts";
import { inStage } from "#actor/stage.ts";
import { hasOwnBuildTime, noteBuild } from "#compile-agent/build-identity.ts";
import {
  inTreeStage,
  keepImages,
  missing,
  notingWarmth,
  stageOf,
  type BuildRequest,
  type BuildResult,
  type Built,
} from "#compile-agent/build.ts";
import { findEsphomeArtifacts, type EsphomeArtifacts } from "#compile-agent/esphome-artifacts.ts";
import { configurationText, inPrivacy, isYaml } from "#compile-agent/bundle-privacy.ts";
import { ProgressMeter } from "#compile-agent/output.ts";
import { plainSandbox } from "#compile-agent/sandbox/sandbox.ts";
import type { Tree } from "#compile-agent/workspace.ts";
import { abortedStop, failed, fileFailure, type Attempt } from "#toolchain/attempt.ts";
import { checkCompiler } from "#toolchain/compiler.ts";
import type { EsphomeEnvironment, EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import type { Redact } from "#toolchain/redaction.ts";
import { runEsphome } from "#toolchain/esphome-command.ts";
import { unpackBundle } from "#toolchain/unpack.ts";

export interface EsphomeBuildRequest extends BuildRequest<EsphomeBuildSpec> {
  readonly environments: EsphomeEnvironments;
}

/** The time stamp has whole seconds; a second try is a warm build of about one, so the third differs for certain. */
const stampTriesMax = 3;

/**
 * Failures: `config-invalid` (exit code 2), `compiler-exit` (1), `toolchain-missing` (no Python, no compiler, a download that
 * failed), `version-unknown`, `bundle-refused`, `artifact-missing`, `disk-full`, `deadline`. When the signal fires, the whole
 * process group is gone before this returns.
 */
export async function buildWithEsphome(request: EsphomeBuildRequest): Promise<BuildResult> {
  const { spec, configuration, workspace, signal } = request;
  const meter = new ProgressMeter(request.onProgress);
  const onLine = (line: string) => {
    meter.read(line);
    request.onLine?.(line);
  };
  meter.say({ phase: "environment" });
  // Marked before it is looked for, so that no other process takes it away in between.
  await using _use = await request.environments.use(spec.version);
  const environment = await ensureEnvironment(request, onLine);
  if (!environment.ok) return environment;
  try {
    const result = await workspace.withTree({ version: spec.version, configuration }, signal, (tree) =>
      notingWarmth(tree, () => buildInTree(request, environment.env, tree, onLine)),
    );
    return result ?? abortedStop;
  } catch (error) {
    return failed(fileFailure(error, "the build folder"));
  }
}

/** Silence is for the tools that make it to keep; who waits for another process that makes it hears nothing for minutes. */
async function ensureEnvironment(
  request: EsphomeBuildRequest,
  onLine: (line: string) => void,
): Promise<Attempt<{ readonly env: EsphomeEnvironment }>> {
  const options = stageOf(request, "environment");
  const { silenceMs: _silenceMs, ...total } = options.limits.environment;
  const limits = { ...options.limits, environment: total };
  const end = await inStage({ ...options, limits, isAwaited: true }, ({ signal }) =>
    request.environments.ensure(request.spec.version, { signal, onLine, limit: options.limits.environment }),
  );
  if (end.kind === "done") return end.value;
  return end.kind === "stopped" ? abortedStop : failed(end.failure);
}

async function buildInTree(
  request: EsphomeBuildRequest,
  env: EsphomeEnvironment,
  tree: Tree,
  onLine: (line: string) => void,
): Promise<Attempt<Built>> {
  const { spec } = request;
  const unpacked = await inTreeStage(request, "unpacking", tree, () =>
    unpackBundle(request.tar, tree.source, { owner: request.sandbox?.owner }),
  );
  if (!unpacked.ok) return unpacked;
  const { files } = unpacked;
  const privateFiles = [...files.filter(isYaml), resolvedConfiguration(spec.entry)];
  return inPrivacy(tree.source, privateFiles, (redact) => buildUnpacked(request, env, tree, files, { onLine, redact }));
}

/**
 * A configuration with its secrets in their places, which ESPHome keeps for commands that are not run here and no build reads
 * (esphome/compiled_config.py, 2026.10.0).
 */
function resolvedConfiguration(entry: string): string {
  return join(dirname(entry), ".esphome", "storage", `${basename(entry)}.validated.json`);
}

interface Reader {
  readonly onLine: (line: string) => void;
  readonly redact: Redact;
}

async function buildUnpacked(
  request: EsphomeBuildRequest,
  env: EsphomeEnvironment,
  tree: Tree,
  files: readonly string[],
  reader: Reader,
): Promise<Attempt<Built>> {
  const { spec, signal } = request;
  if (!files.includes(spec.entry)) {
    return failed({ kind: "bundle-refused", reason: `it does not hold the configuration ${spec.entry}` });
  }
  if (await isForHost(tree.source, files)) {
    const compiler = await checkCompiler({ environment: env.variables, ...(signal === undefined ? {} : { signal }) });
    if (!compiler.ok) return compiler;
  }
  const folder = await request.workspace.resultFolder();
  let isDone = false;
  try {
    const result = await compileAndKeep(request, env, tree, reader, folder);
    isDone = result.ok;
    return result;
  } finally {
    if (!isDone) await request.workspace.dropResult(folder);
  }
}

async function compileAndKeep(
  request: EsphomeBuildRequest,
  env: EsphomeEnvironment,
  tree: Tree,
  { onLine, redact }: Reader,
  folder: string,
): Promise<Attempt<Built>> {
  const { spec, signal, ledger, clock = systemClock } = request;
  const { silenceMs, totalMs } = { ...stageLimits.compiling, ...request.limits?.compiling };
  const startedAt = clock.monotonic();
  const confinement = await (request.sandbox ?? plainSandbox).confine(tree, dirname(dirname(env.esphome)));
  for (let left = stampTriesMax; ; left--) {
    const run = await runEsphome({
      env,
      args: ["compile", basename(spec.entry)],
      folder: join(tree.source, dirname(spec.entry)),
      stage: "compiling",
      confinement,
      silenceMs,
      totalMs: Math.max(0, startedAt + totalMs - clock.monotonic()),
      signal,
      ledger,
      onLine,
      redact,
    });
    if (!run.ok) return run;
    const images = await inTreeStage(request, "collecting", tree, () => collect(request, tree.source, folder));
    if (!images.ok) return images;
    const { found } = images;
    const { build } = found;
    // The image that goes over the air comes first.
    const firmware = images.kept[0];
    if (build === undefined || firmware === undefined || (await hasOwnBuildTime(tree.folder, firmware.digest, build))) {
      if (build !== undefined && firmware !== undefined) await noteBuild(tree.folder, firmware.digest, build);
      const manifest = manifestOf(spec.version, found, images.entries, images.debug);
      return { ok: true, manifest, images: images.kept, folder };
    }
    if (left <= 1) return failed({ kind: "internal", detail: `${found.buildInfoFile} keeps its build time` });
    onLine("the binary changed and its build time did not; building once more, so that the device can tell them apart");
    await Promise.all([
      ...images.kept.map(({ path }) => rm(path, { force: true })),
      rm(found.buildInfoFile, { force: true }),
    ]);
  }
}

async function collect({ spec, onLine }: EsphomeBuildRequest, source: string, folder: string) {
  const found = await findEsphomeArtifacts(source, spec.entry);
  if (found === undefined) return missing("ESPHome left no record of a build");
  const images = await keepImages(found.images, folder);
  if (!images.ok) return images;
  const debug = spec.keepsDebug === true ? await keepDebug(found, folder, onLine) : undefined;
  // The program of a host build is its image as well.
  const more = debug?.kept.filter(({ digest }) => !images.kept.some((image) => image.digest === digest)) ?? [];
  return { ...images, kept: [...images.kept, ...more], found, debug: debug?.entries };
}

/** A build without debug symbols, or with more than the farm carries, is a build all the same, and says so. */
async function keepDebug(found: EsphomeArtifacts, folder: string, onLine?: (line: string) => void) {
  const kept = found.debug === undefined ? missing("there is no ELF") : await keepImages([found.debug], folder);
  if (kept.ok) return kept;
  if (!kept.aborted) onLine?.(`the debug symbols are not kept: ${describeFailure(kept.failure)}`);
  return undefined;
}

function manifestOf(
  version: string,
  found: EsphomeArtifacts,
  images: readonly Image[],
  debug: readonly Image[] | undefined,
): ArtifactManifest {
  return {
    v: 1,
    tool: { name: "esphome", version },
    platform: found.platform,
    ...(found.chip === undefined ? {} : { chip: found.chip }),
    images: [...images],
    ...(debug === undefined ? {} : { debug: [...debug] }),
    ...(found.build === undefined ? {} : { esphome: found.build }),
  };
}

/** Whether any file of the configuration chooses the `host` platform, which builds with this machine's own compiler. */
async function isForHost(source: string, files: readonly string[]): Promise<boolean> {
  for (const file of files.filter(isYaml)) {
    if (/^host:/m.test((await configurationText(source, file)) ?? "")) return true;
  }
  return false;
}
