/** The records of older versions in `test/fixtures/records`. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const folder = join(import.meta.dirname, "../fixtures/records");

export interface StoredRecord {
  readonly version: string;
  readonly name: string;
  /** Bytes as the bucket has them. */
  readonly bytes: Uint8Array;
}

export const recordCorpus: readonly StoredRecord[] = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name: version }) =>
    readdirSync(join(folder, version)).map((file) => ({
      version,
      name: file.replace(".json", ""),
      bytes: readFileSync(join(folder, version, file)),
    })),
  );
