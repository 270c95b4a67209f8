/** Builds with any command: PlatformIO, Arduino CLI, Zephyr, make. Artifacts are the files that the globs match afterwards. */
import { glob, realpath } from "node:fs/promises";
import { basename, isAbsolute, join, relative, sep } from "node:path";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import type { CommandBuildSpec } from "#protocol/job.ts";
import { stageLimits } from "#protocol/limits.ts";
import {
  inTreeStage,
  keepImages,
  missing,
  notingWarmth,
  type BuildRequest,
  type BuildResult,
  type Built,
  type WantedImage,
} from "#compile-agent/build.ts";
import { inPrivacy } from "#compile-agent/bundle-privacy.ts";
import { ProgressMeter } from "#compile-agent/output.ts";
import { plainSandbox } from "#compile-agent/sandbox/sandbox.ts";
import type { Tree } from "#compile-agent/workspace.ts";
import { abortedStop, failed, fileFailure, type Attempt, type Stop } from "#toolchain/attempt.ts";
import { failureOfEnd } from "#toolchain/esphome-command.ts";
import { endOfProcess } from "#toolchain/process-end.ts";
import { ToolOutput } from "#toolchain/tool-output.ts";
import { isSecretsFile, type Redact } from "#toolchain/redaction.ts";
import { unpackBundle } from "#toolchain/unpack.ts";

/** A manifest holds this many images. */
const imagesMax = 16;

/**
 * Unpacks the bundle, runs the command in it without a shell, and collects what it built. Failures: `compiler-exit`,
 * `toolchain-missing` (the command is not there), `artifact-missing`, `bundle-refused`, `disk-full`, `deadline`.
 */
export async function buildWithCommand(request: BuildRequest<CommandBuildSpec>): Promise<BuildResult> {
  const { configuration, workspace, signal } = request;
  try {
    const result = await workspace.withTree({ version: "command", configuration }, signal, (tree) =>
      notingWarmth(tree, () => buildInTree(request, tree)),
    );
    return result ?? abortedStop;
  } catch (error) {
    return failed(fileFailure(error, "the build folder"));
  }
}

async function buildInTree(request: BuildRequest<CommandBuildSpec>, tree: Tree): Promise<Attempt<Built>> {
  const { spec, workspace } = request;
  const unpacked = await inTreeStage(request, "unpacking", tree, () =>
    unpackBundle(request.tar, tree.source, { owner: request.sandbox?.owner }),
  );
  if (!unpacked.ok) return unpacked;
  const secretsFiles = unpacked.files.filter(isSecretsFile);
  const run = await inPrivacy(tree.source, secretsFiles, async (redact) => {
    return (await runCommand(request, tree, redact)) ?? { ok: true };
  });
  if (!run.ok) return run;
  const folder = await workspace.resultFolder();
  const images = await inTreeStage(request, "collecting", tree, async () => {
    const wanted = await matches(tree.source, spec.artifacts);
    return wanted.ok ? keepImages(wanted.images, folder) : wanted;
  });
  if (!images.ok) {
    await workspace.dropResult(folder);
    return images;
  }
  const tool = { name: basename(spec.argv[0] ?? "command"), version: "unknown" };
  const manifest = { v: 1 as const, tool, platform: spec.platform, images: [...images.entries] };
  return { ok: true, manifest, images: images.kept, folder };
}

/** @returns why there is nothing to collect; undefined when the command succeeded. */
async function runCommand(
  request: BuildRequest<CommandBuildSpec>,
  tree: Tree,
  redact: Redact,
): Promise<Stop | undefined> {
  const { argv } = request.spec;
  const { source } = tree;
  const confined = await (request.sandbox ?? plainSandbox).confine(tree);
  const env = plainEnvironment({ NO_COLOR: "1", TERM: "dumb", GIT_TERMINAL_PROMPT: "0" });
  const output = new ToolOutput(redact);
  const meter = new ProgressMeter(request.onProgress);
  meter.say({ phase: "compiling" });
  const result = await runProcess({
    ...confined({ argv, cwd: source, env }),
    ...(request.limits ?? stageLimits).compiling,
    onLine: (line) => {
      const shown = output.push(line);
      meter.read(shown);
      request.onLine?.(shown);
    },
    ...(request.signal === undefined ? {} : { signal: request.signal }),
    ...(request.ledger === undefined ? {} : { ledger: request.ledger }),
  });
  const tool = argv[0] ?? "command";
  if (!result.allGone) return failed({ kind: "internal", detail: `${tool}: a process of it survived SIGKILL` });
  if (result.end.kind === "aborted") return abortedStop;
  if (result.end.kind !== "exited")
    return failed(failureOfEnd(result.end, endOfProcess(result), tool, output.tail(), "compiling"));
  if (result.end.exitCode === 0) return undefined;
  if (output.noticeOf("disk-full") !== undefined) return failed({ kind: "disk-full", path: source });
  return failed({ kind: "compiler-exit", exitCode: result.end.exitCode, tail: [...output.tail()] });
}

/** Regular files inside the folder that the globs match, each glob at least one. Links are not followed out of it. */
async function matches(source: string, globs: readonly string[]): Promise<Attempt<{ images: readonly WantedImage[] }>> {
  const root = await realpath(source);
  const files = new Set<string>();
  for (const pattern of globs) {
    if (isAbsolute(pattern) || pattern.split(/[/\\]/).includes(".."))
      return missing(`${pattern} leads out of the build folder`);
    let found = 0;
    for await (const entry of glob(pattern, { cwd: root, withFileTypes: true })) {
      const path = relative(root, join(entry.parentPath, entry.name));
      if (!entry.isFile() || path.split(sep)[0] === ".flashyard") continue;
      // A folder on the way may be a link.
      const real = relative(root, await realpath(join(root, path)));
      if (real === ".." || real.startsWith(`..${sep}`) || isAbsolute(real))
        return missing(`${path} leads out of the build folder`);
      files.add(path);
      found += 1;
      if (files.size > imagesMax)
        return missing(`the globs match more than ${imagesMax} files; name them more closely`);
    }
    if (found === 0) return missing(`nothing matches ${pattern}`);
  }
  return { ok: true, images: named(root, [...files].toSorted()) };
}

/** Images are named without a folder, as the build named them; where that is ambiguous, the folder joins the name. */
function named(root: string, files: readonly string[]): readonly WantedImage[] {
  return files.map((file) => {
    const isAlone = files.filter((other) => basename(other) === basename(file)).length === 1;
    const name = isAlone ? basename(file) : file.replaceAll(sep, "-");
    return { role: "other", name: name.slice(-200), file: join(root, file) };
  });
}
