/**
 * The two files of a rename: `OLD.yaml`, which the user has, and `NEW.yaml`, which takes its place.
 *
 * 1. `NEW.yaml` never takes the place of another file, and is complete whenever it is there.
 * 2. `OLD.yaml` goes only when `NEW.yaml` is there and holds all that is in it.
 * 3. What is read by ESPHome meanwhile is a draft beside them, which starts with a dot and is gone afterwards.
 */
import { chmod, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { Configuration } from "#protocol/ids.ts";
import { configurationOf } from "#cli/configuration-files.ts";
import { renamedText } from "#cli/renamed-text.ts";

export interface NameSwap {
  readonly oldFile: string;
  readonly newFile: string;
  readonly draftFile: string;
  readonly oldConfiguration: Configuration;
  readonly newConfiguration: Configuration;
  /** The device's new name. */
  readonly name: string;
  readonly oldText: string;
  readonly newText: string;
  readonly mode: number;
}

/** ESPHome 2026.10.0: ALLOWED_NAME_CHARS in const.py, length in core/config.py. A file name must not start with `-` or `_`. */
const nameRule = /^[a-z0-9][a-z0-9_-]{0,30}$/;

/** @throws UsageError for names and files that cannot be swapped */
export async function planSwap(oldFile: string, name: string): Promise<NameSwap> {
  if (!nameRule.test(name)) {
    const rule = "lower-case letters, digits and hyphens, at most 31, the first no hyphen";
    throw new UsageError("bad-name", `${JSON.stringify(name)} is no name for a device: it is made of ${rule}`);
  }
  const [oldText, mode] = await readOld(oldFile);
  const [oldConfiguration, newConfiguration] = [configurationOf(oldFile), Configuration.parse(name)];
  const newFile = join(dirname(oldFile), `${name}.yaml`);
  if (oldConfiguration === newConfiguration || resolve(newFile) === resolve(oldFile)) {
    throw new UsageError("same-name", `${oldFile} is called ${name} already`);
  }
  const renamed = renamedText(oldText, name);
  if (!renamed.ok) throw new UsageError("not-renamed", `${oldFile} cannot be renamed: ${renamed.reason}`);
  const newText = renamed.text;
  if (newText === oldText) throw new UsageError("same-name", `the device of ${oldFile} is called ${name} already`);
  const draftFile = join(dirname(oldFile), `.${name}.renaming.yaml`);
  const swap = { oldFile, newFile, draftFile, oldConfiguration, newConfiguration, name, oldText, newText, mode };
  await requireFree(swap);
  return swap;
}

async function readOld(file: string): Promise<readonly [string, number]> {
  try {
    return [await readFile(file, "utf8"), (await stat(file)).mode];
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const reason = isMissing ? "there is no such file" : `it cannot be read: ${messageOf(cause)}`;
    throw new UsageError("no-file", `${file}: ${reason}`, { cause });
  }
}

/** Invariant 1. One that an interrupted swap has left is what would be written anyway. */
async function requireFree({ newFile, newText }: NameSwap): Promise<void> {
  const found = await readFile(newFile, "utf8").catch((error: NodeJS.ErrnoException) => error);
  if (found === newText || (found instanceof Error && found.code === "ENOENT")) return;
  throw new UsageError("name-taken", `${newFile} is there already: choose another name, or move it away`);
}

/** Invariant 3. @throws UsageError when the folder cannot be written, before anything is built */
export async function withDraft<T>(swap: NameSwap, work: () => Promise<T>): Promise<T> {
  try {
    await writeDraft(swap);
    return await work();
  } finally {
    await rm(swap.draftFile, { force: true });
  }
}

async function writeDraft({ draftFile, newText, mode }: NameSwap): Promise<void> {
  try {
    await writeFile(draftFile, newText, { mode });
    await chmod(draftFile, mode);
  } catch (cause) {
    throw new UsageError("not-written", `${draftFile} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Puts the new file in the old one's place.
 * @returns a sentence when the old one had to stay, because it was changed meanwhile
 * @throws UsageError when files cannot be written, or the new one's name was taken meanwhile
 */
export async function swapFiles(swap: NameSwap): Promise<string | undefined> {
  const { oldFile, newFile, draftFile, oldText } = swap;
  await withDraft(swap, async () => {
    await requireFree(swap);
    await rename(draftFile, newFile);
  });
  const now = await readFile(oldFile, "utf8").catch(() => undefined);
  if (now === undefined) return undefined;
  // Invariant 2.
  if (now !== oldText) {
    return `${basename(oldFile)} was changed meanwhile, so it is still there: carry the change over to ${basename(newFile)}, then remove it`;
  }
  await rm(oldFile);
  return undefined;
}
