/** Results that the coordinator has not acknowledged yet, one file each, so that neither a crash nor an outage loses one. */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { decode, encode } from "#protocol/envelope.ts";
import { ChainId, JobName } from "#protocol/ids.ts";
import { JobResult } from "#protocol/job.ts";

export const SpooledResult = z.object({ chain: ChainId, job: JobName, attempt: z.number().int(), result: JobResult });
export type SpooledResult = z.infer<typeof SpooledResult>;

export interface ResultSpool {
  write(entry: SpooledResult): Promise<void>;
  remove(entry: SpooledResult): Promise<void>;
  all(): Promise<readonly SpooledResult[]>;
}

function fileOf(folder: string, { chain, job, attempt }: SpooledResult): string {
  return join(folder, `${chain}.${job}.${attempt}.json`);
}

/** A spool in a folder; an entry appears whole or not at all, and what cannot be decoded is left where it is. */
export function folderSpool(folder: string): ResultSpool {
  return {
    async write(entry) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const file = fileOf(folder, entry);
      await writeFile(`${file}.part`, encode(entry), { flush: true });
      await rename(`${file}.part`, file);
    },
    async remove(entry) {
      await rm(fileOf(folder, entry), { force: true });
    },
    async all() {
      const names = await readdir(folder).catch(() => []);
      const entries: SpooledResult[] = [];
      for (const name of names.filter((name) => name.endsWith(".json"))) {
        const decoded = decode(SpooledResult, await readFile(join(folder, name)));
        if (decoded.ok) entries.push(decoded.value);
      }
      return entries;
    },
  };
}

/** A spool that forgets at the end of the process, for no-op handlers in benchmarks. */
export function memorySpool(): ResultSpool {
  const entries = new Map<string, SpooledResult>();
  return {
    async write(entry) {
      entries.set(fileOf("", entry), entry);
    },
    async remove(entry) {
      entries.delete(fileOf("", entry));
    },
    all: async () => [...entries.values()],
  };
}
