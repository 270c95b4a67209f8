/** A fetched bundle on its way to the build folders: inflated into a plain tar, and all of it checked. */
import { createReadStream } from "node:fs";
import { open, stat, type FileHandle } from "node:fs/promises";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { bundleLimits, readTar, tooManyBytes, type ArchiveLimits } from "#toolchain/archive.ts";
import { failed, fileFailure, type Attempt } from "#toolchain/attempt.ts";

export interface InflateOptions {
  readonly limits?: ArchiveLimits;
  /** Called with each piece that is on the disk. */
  readonly onPiece?: (() => void) | undefined;
}

/** Packed bytes that are read at a time. */
const readBytes = 256 * 1024;

/**
 * Inflates the bundle in the file `packed` into the new file `tar`, which is whole and on the disk afterwards; after a failure the
 * caller throws it away. Memory does not grow with the bundle. Failures: `bundle-refused`, `disk-full`.
 */
export async function inflateBundle(
  packed: string,
  tar: string,
  options: InflateOptions = {},
): Promise<Attempt<object>> {
  const { limits = bundleLimits, onPiece } = options;
  try {
    const large = tooManyBytes((await stat(packed)).size, limits);
    if (large !== undefined) return failed({ kind: "bundle-refused", reason: large });
    // A bundle holds the passwords of its configuration.
    await using file = await open(tar, "wx", 0o600);
    const refusal = await readTar(keptIn(file, inflated(packed), onPiece), limits, () => undefined);
    if (refusal !== undefined) return failed({ kind: "bundle-refused", reason: refusal });
    await file.datasync();
    return { ok: true };
  } catch (error) {
    return failed(fileFailure(error, tar));
  }
}

function inflated(packed: string): AsyncIterable<Buffer> {
  // What goes wrong is thrown by the reading of what comes out.
  return pipeline(createReadStream(packed, { highWaterMark: readBytes }), createGunzip(), () => {});
}

async function* keptIn(
  file: FileHandle,
  pieces: AsyncIterable<Buffer>,
  onPiece: (() => void) | undefined,
): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    await file.appendFile(piece);
    onPiece?.();
    yield piece;
  }
}
