/** Bundles as a build finds them: inflated and checked, in a file. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ArchiveLimits } from "#toolchain/archive.ts";
import type { Attempt } from "#toolchain/attempt.ts";
import { inflateBundle } from "#toolchain/inflate.ts";
import { unpackBundle } from "#toolchain/unpack.ts";

/** @returns the tar's path, or why there is none. */
export async function inflate(
  bytes: Uint8Array,
  folder: string,
  limits?: ArchiveLimits,
): Promise<Attempt<{ readonly tar: string }>> {
  const packed = join(folder, randomBytes(8).toString("hex"));
  await writeFile(packed, bytes);
  const tar = `${packed}.tar`;
  const inflated = await inflateBundle(packed, tar, limits === undefined ? {} : { limits });
  return inflated.ok ? { ok: true, tar } : inflated;
}

/** The whole way of a bundle into a build folder; `desk` is where its files lie meanwhile. */
export async function unpack(
  bytes: Uint8Array,
  desk: string,
  folder: string,
  limits?: ArchiveLimits,
): Promise<Attempt<{ readonly files: readonly string[] }>> {
  const inflated = await inflate(bytes, desk, limits);
  return inflated.ok ? unpackBundle(inflated.tar, folder, limits === undefined ? {} : { limits }) : inflated;
}
