/**
 * Keeps the promise of `EsphomeBuild`: two different binaries of a tree never carry the same build time.
 *
 * ESPHome stamps a new time only when its own generated sources change. A changed header in `esphome: includes:` or a changed
 * external component gives another binary with the old time and the old config hash (measured with 2026.10.0), and a device
 * that runs the old one would be taken for up to date. The last binary that left a tree is noted beside it, before the
 * result is handed out, and a different one with the same time is stamped anew.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { EsphomeBuild } from "#protocol/artifact.ts";
import { Digest } from "#protocol/ids.ts";

const LastBuild = z.object({ digest: Digest, buildTimeStr: z.string() });

/** Whether this build time is the binary's own, as far as this tree knows. */
export async function hasOwnBuildTime(treeFolder: string, digest: Digest, build: EsphomeBuild): Promise<boolean> {
  try {
    const last = LastBuild.parse(JSON.parse(await readFile(noteIn(treeFolder), "utf8")));
    return last.digest === digest || last.buildTimeStr !== build.buildTimeStr;
  } catch {
    // Nothing has left this tree yet.
    return true;
  }
}

export async function noteBuild(treeFolder: string, digest: Digest, build: EsphomeBuild): Promise<void> {
  const draft = `${noteIn(treeFolder)}.draft`;
  await writeFile(draft, JSON.stringify({ digest, buildTimeStr: build.buildTimeStr }));
  await rename(draft, noteIn(treeFolder));
}

function noteIn(treeFolder: string): string {
  return join(treeFolder, "last-build.json");
}
