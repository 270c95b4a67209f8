/**
 * The pieces of which stored content consists: each is compressed by itself, so that a transfer can go on at any of them, and all of
 * them in a row are what `zstd -d` unpacks.
 */
import { promisify } from "node:util";
import { constants, crc32, zstdCompress, zstdDecompress } from "node:zlib";
import type { Content } from "#bus/object-content.ts";
import { placeOf } from "#bus/object-layout.ts";
import { type ContentKey, openPiece, sealPiece } from "#bus/object-seal.ts";

export type Encoding = "identity" | "zstd";

/** Takes a third off an image at 240 MB/s a core (EPYC, November 2026); the next levels cost more and bring little. */
const level = 3;
/** Looked at in three places to see whether compression pays; images of firmware and archives are alike throughout. */
const sampleBytes = 64 * 1024;
/** What does not lose 3 % is an archive or a picture, and not worth the time of every reader. */
const payingShare = 0.97;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const compression = { params: { [constants.ZSTD_c_compressionLevel]: level } };

/** The same for the same content, so that a transfer that goes on finds its own pieces. @throws what the content throws */
export async function encodingOf(content: Content): Promise<Encoding> {
  const last = Math.max(0, content.bytes - sampleBytes);
  let [plain, packed] = [0, 0];
  for (const at of new Set([0, Math.floor(last / 2), last])) {
    const sample = await content.read(at, Math.min(sampleBytes, content.bytes - at));
    plain += sample.length;
    packed += (await compress(sample, compression)).length;
  }
  return packed < plain * payingShare ? "zstd" : "identity";
}

/** Whatever is between a piece's content and its stored body. */
export interface PieceCodec {
  readonly encoding: Encoding;
  /** Absent: bodies are not sealed. */
  readonly key?: ContentKey | undefined;
}

/** What a piece must be: so many bytes with this check, at this place of its content. */
export interface PieceSpec {
  readonly index: number;
  readonly bytes: number;
  readonly check: string;
}

export async function encodePiece({ encoding, key }: PieceCodec, index: number, plain: Uint8Array) {
  const check = checkOf(plain);
  const body = encoding === "zstd" ? await compress(plain, compression) : plain;
  return { check, body: key === undefined ? body : sealPiece(key, placeOf(index, check), body) };
}

/** The content of a piece, from its stored body; undefined when that is not what it must be, however large it would unpack. */
export async function decodePiece(
  { encoding, key }: PieceCodec,
  stored: Uint8Array,
  { index, bytes, check }: PieceSpec,
): Promise<Uint8Array | undefined> {
  let plain = key === undefined ? stored : openPiece(key, placeOf(index, check), stored);
  if (plain !== undefined && encoding === "zstd") {
    try {
      plain = await decompress(plain, { maxOutputLength: bytes });
    } catch {
      // Not zstd at all, cut off, or more than it may be.
      return undefined;
    }
  }
  return plain?.length === bytes && checkOf(plain) === check ? plain : undefined;
}

/** CRC-32 of a piece's content in eight hexadecimal digits: finds damage piece by piece; the digest of the whole decides. */
export function checkOf(plain: Uint8Array): string {
  return crc32(plain).toString(16).padStart(8, "0");
}
