/** Writes the images of builds where the user wants them. */
import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { ArtifactManifest, Image } from "#protocol/artifact.ts";
import { messageOf, UsageError } from "#protocol/errors.ts";
import type { Farm } from "#cli/farm.ts";

const manifestName = "manifest.json";

/**
 * Fetches every image, checks its digest, and writes it and `manifest.json` into the folder.
 * @returns a sentence about an image that the farm has lost, or that is not what its digest says; undefined when all is well.
 * @throws UsageError for a folder that cannot be written and for image names that are no file names (they come from a build)
 */
export async function writeImages(farm: Farm, manifest: ArtifactManifest, folder: string): Promise<string | undefined> {
  const images = filesOf(manifest);
  const names = images.map(({ name }) => name);
  for (const name of names) {
    const isFileName = name === basename(name) && !/^\.{1,2}$|[\\\p{Cc}]/u.test(name) && name !== manifestName;
    if (isFileName && names.indexOf(name) === names.lastIndexOf(name)) continue;
    throw new UsageError(
      "bad-image-name",
      `the build made an image called ${JSON.stringify(name)}, which cannot be written as such`,
    );
  }
  const store = farm.artifacts;
  for (const { name, digest } of images) {
    const found = await store.get(digest);
    if (!found.ok) return `${name} was not written: in the farm's store, ${digest} is ${found.found}`;
    await write(join(folder, name), found.bytes);
  }
  await write(join(folder, manifestName), `${JSON.stringify(manifest, undefined, 2)}\n`);
  return undefined;
}

/** The images, and the files with debug symbols under names that no image has; a host's program is its own. Pure. */
export function filesOf({ images, debug = [] }: ArtifactManifest): readonly Image[] {
  const isSame = (one: Image) => images.some(({ name, digest }) => name === one.name && digest === one.digest);
  const isTaken = (name: string) => images.some((image) => image.name === name);
  const renamed = (one: Image): Image => (isTaken(one.name) ? { ...one, name: `${one.name}.debug` } : one);
  return [...images, ...debug.filter((one) => !isSame(one)).map(renamed)];
}

/** @throws UsageError `no-folder`, before anything is built for it */
export async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true }).catch((cause: unknown) => refuse(folder, cause));
}

async function write(file: string, content: Uint8Array | string): Promise<void> {
  await writeFile(file, content).catch((cause: unknown) => refuse(file, cause));
}

function refuse(path: string, cause: unknown): never {
  throw new UsageError("not-written", `${path} cannot be written: ${messageOf(cause)}`, { cause });
}
