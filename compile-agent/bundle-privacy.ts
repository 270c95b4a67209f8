/**
 * What of a bundle is private, as long as its build runs and after it.
 *
 * 1. The build's lines, and a failure's, hold none of its secrets in the clear (`toolchain/redaction.ts`).
 * 2. No configuration stays in the tree when its build is over, however it ended. What ESPHome has made of it stays, for the tree to be
 *    warm: docs/secrets.md.
 * 3. Nothing outside of the tree is read or removed, whatever builds have left in it.
 */
import { lstat, readFile } from "node:fs/promises";
import { join } from "node:path";
import { failed, type Attempt } from "#toolchain/attempt.ts";
import { isSecretsFile, type NamedSecret, type Redact, redactor, secretsIn } from "#toolchain/redaction.ts";
import { removeFiles } from "#toolchain/unpack.ts";

/** A configuration has kilobytes; what is larger is data, and would cost its build minutes to look through. */
const configurationBytesMax = 1_048_576;
/** Each is looked for in every line; a configuration has a dozen. */
const secretsMax = 1_000;

/**
 * Runs a build on the files of a bundle that lie in `folder`. Failure: `bundle-refused` when its secrets are more than can be kept
 * out of its lines.
 * @param files those that are private: YAML is looked through, and all go
 */
export async function inPrivacy<T extends object>(
  folder: string,
  files: readonly string[],
  build: (redact: Redact) => Promise<Attempt<T>>,
): Promise<Attempt<T>> {
  try {
    const secrets = await secretsOf(folder, files.filter(isYaml));
    if (typeof secrets === "string") return failed({ kind: "bundle-refused", reason: secrets });
    return await build(redactor(secrets));
  } finally {
    // Invariants 2 and 3.
    await removeFiles(folder, files);
  }
}

export function isYaml(file: string): boolean {
  return /\.ya?ml$/.test(file);
}

/** The text of a configuration; undefined for what is none: another build may have left anything in the place of a download. */
export async function configurationText(folder: string, file: string): Promise<string | undefined> {
  const path = join(folder, file);
  const found = await lstat(path);
  return found.isFile() && found.size <= configurationBytesMax ? readFile(path, "utf8") : undefined;
}

/** @returns why the secrets cannot be kept instead of them */
async function secretsOf(folder: string, configurations: readonly string[]): Promise<readonly NamedSecret[] | string> {
  const found: NamedSecret[] = [];
  for (const file of configurations) {
    const text = await configurationText(folder, file);
    if (text !== undefined) found.push(...secretsIn(file, text));
    else if (isSecretsFile(file)) return `${file} is no file of at most ${configurationBytesMax} bytes`;
    if (found.length > secretsMax) return `it has more than ${secretsMax} secrets, which cannot be kept out of its log`;
  }
  return found;
}
