/** What both drivers take and give back. */
import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "#actor/clock.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { inStage, type StageOptions } from "#actor/stage.ts";
import type { ArtifactManifest, Image } from "#protocol/artifact.ts";
import { imageBytesMax } from "#protocol/artifact.ts";
import type { Configuration } from "#protocol/ids.ts";
import { stageLimits, type StageLimits } from "#protocol/limits.ts";
import type { BuildProgress } from "#compile-agent/output.ts";
import type { Sandbox } from "#compile-agent/sandbox/sandbox.ts";
import { keepImage, type KeptImage, type Tree, type Workspace } from "#compile-agent/workspace.ts";
import { abortedStop, failed, type Attempt, type Stop } from "#toolchain/attempt.ts";

export interface BuildRequest<Spec> {
  readonly spec: Spec;
  /** The file of its bundle, inflated and checked. */
  readonly tar: string;
  readonly configuration: Configuration;
  readonly workspace: Workspace;
  readonly signal?: AbortSignal | undefined;
  /** Cleaned lines of the tool's output. */
  readonly onLine?: ((line: string) => void) | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
  readonly ledger?: GroupLedger | undefined;
  readonly clock?: Clock | undefined;
  readonly limits?: StageLimits | undefined;
  /** Absent: none. */
  readonly sandbox?: Sandbox | undefined;
}

/** How a stage of this build is held to its limits. */
export function stageOf(request: BuildRequest<unknown>, stage: StageOptions["stage"]): StageOptions {
  const { clock = systemClock, limits = stageLimits, signal = new AbortController().signal } = request;
  return { stage, limits, clock, signal };
}

/**
 * A stage that reads and writes the tree. Nothing can call off a disk that hangs: the build ends at the limit, and the tree is not
 * given to another one before the disk has answered.
 */
export async function inTreeStage<T extends object>(
  request: BuildRequest<unknown>,
  stage: "unpacking" | "collecting",
  tree: Tree,
  work: () => Promise<Attempt<T>>,
): Promise<Attempt<T>> {
  const end = await inStage(stageOf(request, stage), () => {
    const working = work();
    tree.keepFor(working);
    return working;
  });
  if (end.kind === "done") return end.value;
  return end.kind === "stopped" ? abortedStop : failed(end.failure);
}

/** `folder` holds the images and nothing else; whoever has sent them drops it. */
export interface Built {
  readonly manifest: ArtifactManifest;
  readonly images: readonly KeptImage[];
  readonly folder: string;
}

/** `isWarm`: a build had succeeded in the tree before. */
export type BuildResult = Attempt<Built & { readonly isWarm: boolean }>;

/** Builds in a tree, and notes that something has been built there. */
export async function notingWarmth(tree: Tree, build: () => Promise<Attempt<Built>>): Promise<BuildResult> {
  const note = join(tree.folder, "built");
  const isWarm = await access(note).then(
    () => true,
    () => false,
  );
  const built = await build();
  if (!built.ok) return built;
  // Without room for the note the next build counts as cold, which does no harm.
  await writeFile(note, "").catch(() => undefined);
  return { ...built, isWarm };
}

export interface WantedImage extends Pick<Image, "role" | "name" | "offset"> {
  readonly file: string;
}

/** Copies the images of a build out of its tree. Failure: `artifact-missing` for what is not there or too large. */
export async function keepImages(
  wanted: readonly WantedImage[],
  folder: string,
): Promise<Attempt<{ readonly kept: readonly KeptImage[]; readonly entries: readonly Image[] }>> {
  const kept: KeptImage[] = [];
  const entries: Image[] = [];
  for (const { file, role, name, offset } of wanted) {
    const image = await keepImage(file, folder);
    if (image === undefined) return missing(`${name} is not there`);
    if (image.bytes > imageBytesMax)
      return missing(`${name} has ${image.bytes} bytes, at most ${imageBytesMax} are allowed`);
    kept.push(image);
    entries.push({ role, name, digest: image.digest, bytes: image.bytes, ...(offset === undefined ? {} : { offset }) });
  }
  return { ok: true, kept, entries };
}

export function missing(detail: string): Stop {
  return failed({ kind: "artifact-missing", detail });
}
