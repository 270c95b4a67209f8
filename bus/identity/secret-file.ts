/**
 * Files with secrets, which only their owner reads.
 *
 * 1. A file is whole, or as it was.
 * 2. One that others may read is not read either: whoever made it so should hear of it.
 */
import { randomBytes } from "node:crypto";
import { link, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { messageOf, UsageError } from "#protocol/errors.ts";

/**
 * The JSON of a file; what is none is undefined inside of `found`.
 * @returns undefined where there is no file. @throws what `unusable` makes of a reason
 */
export async function readSecretFile(
  path: string,
  unusable: (path: string, reason: string) => UsageError,
): Promise<{ readonly found: unknown } | undefined> {
  try {
    const { mode } = await stat(path);
    // Invariant 2.
    if ((mode & 0o077) !== 0) throw unusable(path, `others may read it: \`chmod 600 ${path}\``);
    return { found: parsed(await readFile(path, "utf8")) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    if (error instanceof UsageError) throw error;
    throw unusable(path, messageOf(error));
  }
}

/** Takes the place of what is there. @throws what the disk says */
export function replaceSecretFile(path: string, text: string): Promise<void> {
  return withDraft(path, text, (draft) => rename(draft, path));
}

/** Leaves what is there; of two that write at once, one does. @throws what the disk says, `EEXIST` where there is a file */
export function createSecretFile(path: string, text: string): Promise<void> {
  return withDraft(path, text, (draft) => link(draft, path));
}

/** Invariant 1. */
async function withDraft(path: string, text: string, place: (draft: string) => Promise<void>): Promise<void> {
  const draft = `${path}.${randomBytes(4).toString("hex")}`;
  try {
    await writeFile(draft, text, { mode: 0o600, flag: "wx", flush: true });
    await place(draft);
  } finally {
    await rm(draft, { force: true });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
