/**
 * How an object lies in its bucket: as NATS ADR-20 says, so that its tools list, read and delete it, with this on top.
 *
 * 1. The name of an object is the digest of its content. Its pieces are addressed by their content as well: number and check are in
 *    the subject. So each is stored once, however often it is sent, and what has arrived is found by its subject.
 * 2. The pieces of a broken transfer are gone on with for a generation; a later transfer starts anew, so that no object loses a piece
 *    to the bucket's maximum age long before its end.
 * 3. A meta message is written when all pieces are there. Its digest is that of the stored bytes, for the tools; the one of the
 *    content is in its metadata.
 */
import { z } from "zod";
import { decode, encode } from "#protocol/envelope.ts";
import { Digest } from "#protocol/ids.ts";
import { objectName } from "#protocol/names.ts";
import type { Encoding } from "#bus/object-codec.ts";

/** The largest content. Far above any image with its debug information; what claims more is not believed. */
export const objectBytesMax = 1024 ** 3;
/** Content of one message: fewer round trips than by the client's own 128 KiB, and below any server's default limit of 1 MiB. */
export const pieceBytes = 512 * 1024;

/** Seven days; with `freshMsMax` less than the bucket's 30. */
const generationMs = 7 * 24 * 60 * 60 * 1000;
/** An object of more than 15 days is stored anew when it is put again: who puts it counts on it for some days. */
export const freshMsMax = 15 * 24 * 60 * 60 * 1000;

/** Where the pieces of a content belong. */
export interface Layout {
  readonly encoding: Encoding;
  /** Each piece is sealed (`object-seal.ts`). */
  readonly isSealed: boolean;
  /** The last token of the chunks' subject; the client's word. Matches the subjects of all pieces. */
  readonly nuid: string;
}

export interface ObjectMeta {
  readonly contentDigest: Digest;
  readonly bytes: number;
  readonly storedBytes: number;
  /** When the server got it, ms since 1970. */
  readonly at: number;
  /** Of the meta message in its stream. */
  readonly sequence: number;
  readonly nuid: string;
  /** Absent in an object of the client: its chunks have one subject and no encoding. */
  readonly pieces?: { readonly encoding: Encoding; readonly isSealed: boolean; readonly checks: readonly string[] };
  readonly chunks: number;
}

export function streamOf(bucket: string): string {
  return `OBJ_${bucket}`;
}

export function metaSubject(bucket: string, digest: Digest): string {
  return `$O.${bucket}.M.${padded(Buffer.from(objectName(digest)).toString("base64url"))}`;
}

/** The name of the object that a meta message is about. */
export function nameIn(subject: string): string {
  return Buffer.from(subject.split(".").at(-1) ?? "", "base64url").toString();
}

export function metaSubjects(bucket: string): string {
  return `$O.${bucket}.M.>`;
}

export function chunkSubject(bucket: string, nuid: string): string {
  return `$O.${bucket}.C.${nuid}`;
}

/** The pieces of all generations of a content, whoever has sent them; the second are those of version 0.1, which did not say who. */
export function pieceSubjects(bucket: string, digest: Digest): readonly [string, string] {
  return [chunkSubject(bucket, `*.${digest}.>`), chunkSubject(bucket, `${digest}.>`)];
}

/** All pieces that one owner has sent. */
export function subjectsOwned(bucket: string, owner: string): string {
  return chunkSubject(bucket, `${owner}.>`);
}

/** Changes with `pieceBytes` and with whatever else is in a piece: pieces of two kinds must not meet under one nuid. */
const kinds: Record<Encoding, { readonly plain: string; readonly sealed: string }> = {
  identity: { plain: "i1", sealed: "i2" },
  zstd: { plain: "z1", sealed: "z2" },
};

/** @param owner a token: whoever sends the pieces */
export function layoutOf(
  owner: string,
  digest: Digest,
  { encoding, isSealed }: Omit<Layout, "nuid">,
  now: number,
): Layout {
  const kind = kinds[encoding][isSealed ? "sealed" : "plain"];
  return { encoding, isSealed, nuid: `${owner}.${digest}.${Math.floor(now / generationMs)}${kind}.>` };
}

/** Who has sent the pieces; undefined when nobody has said so. */
export function ownerIn(nuid: string): string | undefined {
  const tokens = nuid.split(".");
  return tokens.length === 4 ? tokens[0] : undefined;
}

export function pieceSubject(bucket: string, nuid: string, index: number, check: string): string {
  return chunkSubject(bucket, `${nuid.slice(0, -1)}${placeOf(index, check)}`);
}

/** What a piece is, and where it belongs in its content. */
export function placeOf(index: number, check: string): string {
  return `${index}.${check}`;
}

/** Bytes of the content in piece `index`. */
export function pieceLength(bytes: number, index: number): number {
  return Math.min(pieceBytes, bytes - index * pieceBytes);
}

export function pieceCount(bytes: number): number {
  return Math.ceil(bytes / pieceBytes);
}

const StoredMeta = z.object({
  nuid: z.string().default(""),
  size: z.number().int().nonnegative().default(0),
  chunks: z.number().int().nonnegative().default(0),
  digest: z.string().default(""),
  deleted: z.boolean().optional(),
  metadata: z.record(z.string(), z.string()).nullish(),
});

/** How sealed pieces are sealed. */
const sealName = "aes-256-gcm";

const PieceMetadata = z.object({
  "content-digest": Digest,
  "content-encoding": z.enum(["identity", "zstd"]),
  "content-bytes": z.coerce.number().int().nonnegative().max(objectBytesMax),
  "piece-bytes": z.literal(String(pieceBytes)),
  "piece-checks": z.string().regex(/^([0-9a-f]{8})*$/),
  "content-seal": z.literal(sealName).optional(),
});

const ourNuid = /^(?:[a-z0-9_][a-z0-9-]*\.)?[0-9a-f]{64}\.\d+[iz][12]\.>$/;
const clientNuid = /^[\w-]+$/;

export interface MetaMessage {
  readonly data: Uint8Array;
  readonly time: Date;
  readonly seq: number;
}

export function readFoundMeta(message: MetaMessage | undefined): ObjectMeta | "missing" | "corrupt" {
  const meta = message === undefined ? "deleted" : readMeta(message);
  return meta === "deleted" ? "missing" : meta;
}

/** What a meta message says; `corrupt` is one that cannot be true. */
export function readMeta(message: MetaMessage): ObjectMeta | "deleted" | "corrupt" {
  const decoded = decode(StoredMeta, message.data);
  if (!decoded.ok) return "corrupt";
  const { nuid, size: storedBytes, chunks, digest, deleted, metadata } = decoded.value;
  if (deleted === true) return "deleted";
  const common = { storedBytes, at: message.time.getTime(), sequence: message.seq, nuid };
  if (metadata?.["piece-checks"] === undefined) {
    const contentDigest = Digest.safeParse(Buffer.from(digest.replace(/^SHA-256=/, ""), "base64url").toString("hex"));
    if (!contentDigest.success || !clientNuid.test(nuid) || storedBytes > objectBytesMax) return "corrupt";
    return { ...common, contentDigest: contentDigest.data, bytes: storedBytes, chunks };
  }
  const ours = PieceMetadata.safeParse(metadata);
  if (!ours.success || !ourNuid.test(nuid)) return "corrupt";
  const bytes = ours.data["content-bytes"];
  const checks = ours.data["piece-checks"].match(/.{8}/g) ?? [];
  if (checks.length !== pieceCount(bytes)) return "corrupt";
  const isSealed = ours.data["content-seal"] !== undefined;
  const pieces = { encoding: ours.data["content-encoding"], isSealed, checks };
  return { ...common, contentDigest: ours.data["content-digest"], bytes, pieces, chunks: checks.length };
}

export interface WrittenMeta {
  readonly layout: Layout;
  readonly digest: Digest;
  readonly bytes: number;
  readonly checks: readonly string[];
  readonly storedBytes: number;
  /** SHA-256 of the stored bytes, hexadecimal. */
  readonly storedDigest: string;
}

export function writeMeta(bucket: string, meta: WrittenMeta, now: number): Uint8Array {
  const { layout, digest, bytes, checks, storedBytes, storedDigest } = meta;
  return encode({
    name: objectName(digest),
    bucket,
    nuid: layout.nuid,
    size: storedBytes,
    chunks: checks.length,
    mtime: new Date(now).toISOString(),
    digest: `SHA-256=${padded(Buffer.from(storedDigest, "hex").toString("base64url"))}`,
    options: { max_chunk_size: pieceBytes },
    metadata: {
      "content-digest": digest,
      "content-encoding": layout.encoding,
      "content-bytes": String(bytes),
      "piece-bytes": String(pieceBytes),
      "piece-checks": checks.join(""),
      ...(layout.isSealed ? { "content-seal": sealName } : {}),
    },
  });
}

/** The clients write base64url with its padding. */
function padded(text: string): string {
  return text.padEnd(Math.ceil(text.length / 4) * 4, "=");
}
