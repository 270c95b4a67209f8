/** What a backup holds: its files, and the manifest that comes first in it. */
import { z } from "zod";
import { auditSubject, buckets, bucketStream, keySubject, objectStores, streams } from "#protocol/names.ts";

/** A stream of the farm, and the beginning of the subjects that it takes. */
export interface KeptStream {
  readonly stream: string;
  readonly prefix: string;
  /** Newest value of each key, and no more. */
  readonly isBucket: boolean;
  /** Left out unless it is asked for. */
  readonly only?: "logs" | "objects";
  /** Of no use to a farm with other keys. */
  readonly isOfKeys?: boolean;
}

/** Presence, lease and lanes repeat what others say, and are not kept. Chains come first: see `write-backup.ts`. */
const { chains, presence: _presence, lease: _lease, ...others } = buckets;

export const keptStreams: readonly KeptStream[] = [
  ...[chains, ...Object.values(others)].map((bucket) => ({
    stream: bucketStream(bucket),
    prefix: keySubject(bucket, ""),
    isBucket: true,
    isOfKeys: bucket === buckets.paired,
  })),
  { stream: streams.audit, prefix: auditSubject, isBucket: false },
  { stream: streams.logs, prefix: "fy.log.", isBucket: false, only: "logs" },
  ...Object.values(objectStores).map((store) => ({
    stream: `OBJ_${store}`,
    prefix: `$O.${store}.`,
    isBucket: false,
    only: "objects" as const,
    isOfKeys: true,
  })),
];

export const chainsStream = bucketStream(chains);
export const historyStream = bucketStream(buckets.history);

export const manifestName = "manifest.json";
export const streamFile = (stream: string) => `streams/${stream}.jsonl`;
export const identityFile = (name: string) => `identity/${name}`;
/** The name of a file of the identity's folder; undefined for any other file. */
export const nameInIdentity = (path: string) => /^identity\/([a-z0-9][a-z0-9.-]{0,60})$/.exec(path)?.[1];

export const BackupFile = z.object({
  path: z.string().max(200),
  bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Of a stream. */
  messages: z.number().int().nonnegative().optional(),
});
export type BackupFile = z.infer<typeof BackupFile>;

export const BackupManifest = z.object({
  kind: z.literal("flashyard-backup"),
  /** Of the backup's form. */
  v: z.literal(1),
  /** The flashyard that has made it. */
  version: z.string().max(40),
  /** ms since 1970. */
  at: z.number(),
  /** At which all live chains were read; absent where they changed all the time. */
  chainsSequence: z.number().int().nonnegative().optional(),
  files: z.array(BackupFile).max(200),
});
export type BackupManifest = z.infer<typeof BackupManifest>;

const Subject = z
  .string()
  .max(1_000)
  .regex(/^[^\s*>]+$/);

/** One message as a line of a stream's file. */
export const BackupLine = z.union([
  z.object({ subject: Subject, text: z.string() }),
  z.object({ subject: Subject, base64: z.base64() }),
]);

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Text stays readable, and packs better. */
export function lineOf({ subject, body }: { readonly subject: string; readonly body: Uint8Array }): string {
  try {
    return `${JSON.stringify({ subject, text: utf8.decode(body) })}\n`;
  } catch {
    return `${JSON.stringify({ subject, base64: Buffer.from(body).toString("base64") })}\n`;
  }
}

/** @returns undefined for a line that no backup has */
export function messageOfLine(line: string): { readonly subject: string; readonly body: Uint8Array } | undefined {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { success, data } = BackupLine.safeParse(json);
  if (!success) return undefined;
  const body = "text" in data ? Buffer.from(data.text) : Buffer.from(data.base64, "base64");
  return { subject: data.subject, body };
}
