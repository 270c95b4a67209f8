/**
 * What of a bundle is private, as long as its build runs and after it.
 *
 * 1. The build's lines, and a failure's, hold none of its secrets in the clear (`toolchain/redaction.ts`).
 * 2. No configuration stays in the tree when its build is over, however it ended. What ESPHome has made of it stays, for the tree to be
 *    warm: docs/secrets.md.
 */
import { readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Attempt } from "#toolchain/attempt.ts";
import { type NamedSecret, redactFailure, redactor, secretsIn } from "#toolchain/redaction.ts";

/** A configuration has kilobytes; what is larger is data, and would cost its build minutes to look through. */
const configurationBytesMax = 1_048_576;

/** Runs a build on the files of a bundle that lie in `folder`. */
export async function inPrivacy<T extends object>(
  folder: string,
  files: readonly string[],
  onLine: (line: string) => void,
  build: (onLine: (line: string) => void) => Promise<Attempt<T>>,
): Promise<Attempt<T>> {
  const configurations = files.filter((file) => /\.ya?ml$/.test(file));
  try {
    const redact = redactor(await secretsOf(folder, configurations));
    const result = await build((line) => onLine(redact(line)));
    if (result.ok || result.aborted) return result;
    return { ...result, failure: redactFailure(result.failure, redact) };
  } finally {
    // Invariant 2.
    await Promise.all(configurations.map((file) => rm(join(folder, file), { force: true })));
  }
}

async function secretsOf(folder: string, configurations: readonly string[]): Promise<readonly NamedSecret[]> {
  const found = await Promise.all(
    configurations.map(async (file) => {
      const path = join(folder, file);
      const { size } = await stat(path);
      return size > configurationBytesMax ? [] : secretsIn(file, await readFile(path, "utf8"));
    }),
  );
  return found.flat();
}
