/** Makes the bundle of a source folder, for the `command` driver. */
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join, matchesGlob, relative, sep } from "node:path";
import { Header, Pax } from "tar";
import { messageOf } from "#protocol/errors.ts";
import { digestOf } from "#actor/digest.ts";
import { bundleLimits, canonicalGzip, type ArchiveLimits } from "#toolchain/archive.ts";
import { failed, type Attempt, type Stop } from "#toolchain/attempt.ts";
import type { Bundle } from "#toolchain/bundle.ts";

export interface CommandBundleOptions {
  /** More to leave out, as globs over the path inside the folder, e.g. `build` or `**` + `/*.o`. A matched folder goes whole. */
  readonly skip?: readonly string[];
  readonly limits?: ArchiveLimits;
}

const alwaysSkipped = new Set([".git", "node_modules", ".flashyard"]);

/**
 * Packs a source folder for the `command` driver. The bytes depend on names, contents and executable bits only.
 * A link to a file inside the folder is packed as that file. Failures: `bundle-refused` for links that lead out of the
 * folder or to folders, for sockets and devices, for nothing to pack, and beyond the limits.
 */
export async function makeCommandBundle(folder: string, options: CommandBundleOptions = {}): Promise<Attempt<Bundle>> {
  const limits = options.limits ?? bundleLimits;
  const root = await realpath(folder).catch(() => undefined);
  if (root === undefined) return refused(`there is no folder ${folder}`);
  const found = { files: [] as string[], bytes: 0 };
  const refusal = await collect(root, "", options.skip ?? [], limits, found);
  if (refusal !== undefined) return refused(refusal);
  if (found.files.length === 0) return refused(`${folder} holds no file to build from`);
  found.files.sort();
  try {
    const blocks: Buffer[] = [];
    for (const file of found.files) blocks.push(...(await tarBlocks(root, file)));
    const bytes = canonicalGzip(Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)]));
    if (bytes.length > limits.bytesMax)
      return refused(`it has ${bytes.length} bytes, at most ${limits.bytesMax} are allowed`);
    return { ok: true, bytes, digest: digestOf(bytes), files: found.files };
  } catch (error) {
    return refused(`${folder} changed while it was packed (${messageOf(error)})`);
  }
}

const blockBytes = 512;

/** One file of the archive, with nothing in its header that says when, by whom or with what mask it was written. */
async function tarBlocks(root: string, path: string): Promise<readonly Buffer[]> {
  const file = join(root, path);
  const content = await readFile(file);
  const mode = ((await stat(file)).mode & 0o100) === 0 ? 0o644 : 0o755;
  const block = Buffer.alloc(blockBytes);
  const header = new Header({ path, mode, size: content.length, type: "File", mtime: new Date(0), uid: 0, gid: 0 });
  const isTooLongForHeader = header.encode(block, 0);
  const extended = isTooLongForHeader ? [new Pax({ path, size: content.length }).encode()] : [];
  return [...extended, block, content, Buffer.alloc(-content.length & (blockBytes - 1))];
}

/** Adds what lies below `inside` to `found`. @returns the reason to refuse the folder, if there is one. */
async function collect(
  root: string,
  inside: string,
  skip: readonly string[],
  limits: ArchiveLimits,
  found: { files: string[]; bytes: number },
): Promise<string | undefined> {
  for (const entry of await readdir(join(root, inside), { withFileTypes: true })) {
    const path = inside === "" ? entry.name : `${inside}/${entry.name}`;
    if (alwaysSkipped.has(entry.name) || skip.some((glob) => matchesGlob(path, glob))) continue;
    if (entry.isDirectory()) {
      const refusal = await collect(root, path, skip, limits, found);
      if (refusal !== undefined) return refusal;
      continue;
    }
    const target = await realpath(join(root, path)).catch(() => undefined);
    const isInside = target !== undefined && !relative(root, target).startsWith(`..${sep}`);
    const details = isInside ? await stat(target) : undefined;
    if (details?.isFile() !== true) return `${path} is not a file, nor a link to one inside the folder; skip it`;
    found.files.push(path);
    found.bytes += details.size;
    if (found.bytes > limits.unpackedBytesMax)
      return `it holds more than ${limits.unpackedBytesMax} bytes; skip what the build does not need`;
    if (found.files.length > limits.filesMax)
      return `it has more than ${limits.filesMax} files; skip what the build does not need`;
  }
  return undefined;
}

function refused(reason: string): Stop {
  return failed({ kind: "bundle-refused", reason });
}
