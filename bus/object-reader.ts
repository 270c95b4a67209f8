/**
 * Brings an object from its bucket, in order and piece by piece.
 *
 * 1. What a draft has from an earlier transfer is not asked for again.
 * 2. Whatever is wrong is told, and nothing of it is believed: a piece counts with its check, the whole with its digest.
 */
import { createHash } from "node:crypto";
import type { Clock } from "#actor/clock.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { Digest } from "#protocol/ids.ts";
import { inOrder, Pace } from "#bus/in-order.ts";
import { checkOf, decodePiece } from "#bus/object-codec.ts";
import type { Draft } from "#bus/object-content.ts";
import { chunkSubject, type ObjectMeta, pieceBytes, pieceLength, pieceSubject } from "#bus/object-layout.ts";
import type { ObjectMessages } from "#bus/object-messages.ts";
import type { ContentKey } from "#bus/object-seal.ts";

/** Asked for and not yet taken: 4 MiB keep a disk and a network busy together. */
const askedMax = 8;

/** What is wrong with an object: not there, the digest that it has instead, or not what was stored. */
export type Refusal = { readonly ok: false; readonly found: Digest | "missing" | "corrupt" };

export interface Loading {
  readonly draft: Draft;
  readonly clock: Clock;
  /** Called for each piece that is in the draft. */
  readonly onPiece: (() => void) | undefined;
}

/** @throws UnavailableError; what the client throws */
export async function loadObject(
  messages: ObjectMessages,
  digest: Digest,
  loading: Loading,
): Promise<{ ok: true; bytes: number } | Refusal> {
  for (let meta = await messages.meta(digest); ;) {
    if (typeof meta !== "object") return { ok: false, found: meta };
    const found = await receive(messages, meta, loading);
    if (found === digest) return { ok: true, bytes: meta.bytes };
    if (found === meta.contentDigest) return { ok: false, found };
    // What was read may have been removed or replaced meanwhile.
    const again = await messages.meta(digest);
    if (typeof again === "object" && again.sequence === meta.sequence) return { ok: false, found: "corrupt" };
    meta = again;
  }
}

/** @returns the digest of what came; undefined when a piece did not come, or not as it was stored */
async function receive(messages: ObjectMessages, meta: ObjectMeta, loading: Loading): Promise<Digest | undefined> {
  const whole = createHash("sha256");
  let at = 0;
  const { draft, onPiece } = loading;
  for await (const piece of piecesOf(messages, meta, loading, await keyFor(messages, meta))) {
    messages.check();
    if (piece === undefined) return undefined;
    whole.update(piece.content);
    if (!piece.isKept) await draft.write(at, piece.content);
    at += piece.content.length;
    onPiece?.();
  }
  return Digest.parse(whole.digest("hex"));
}

/** @throws UnavailableError `no-key` for a sealed content of which nobody here has the key */
async function keyFor(
  messages: ObjectMessages,
  { contentDigest, pieces }: ObjectMeta,
): Promise<ContentKey | undefined> {
  if (pieces?.isSealed !== true) return undefined;
  const key = await messages.key(contentDigest);
  if (key !== undefined) return key;
  throw new UnavailableError("no-key", `${contentDigest} is sealed, and its key is not given out`);
}

interface Piece {
  readonly content: Uint8Array;
  /** It is in the draft already. */
  readonly isKept: boolean;
}

/** Gives undefined, and ends, where a piece is lost or not what the meta message says. */
function piecesOf(
  messages: ObjectMessages,
  meta: ObjectMeta,
  loading: Loading,
  key: ContentKey | undefined,
): AsyncGenerator<Piece | undefined> {
  const { bytes, nuid, pieces } = meta;
  if (pieces === undefined) return chunksOf(messages, meta);
  const { draft, clock } = loading;
  const pace = new Pace(clock, askedMax);
  const width = () => pace.width;
  return inOrder(pieces.checks.entries(), width, async ([index, check]): Promise<Piece | undefined> => {
    const expected = { index, bytes: pieceLength(bytes, index), check };
    const kept = await draft.kept(index * pieceBytes, expected.bytes);
    if (kept !== undefined && checkOf(kept) === check) return { content: kept, isKept: true };
    const stored = await pace.time(messages.fetch(pieceSubject(messages.bucket, nuid, index, check)));
    const content = stored && (await decodePiece({ encoding: pieces.encoding, key }, stored, expected));
    return content && { content, isKept: false };
  });
}

/** An object that NATS's own client has stored: its chunks have one subject, and only their order tells them apart. */
async function* chunksOf(
  messages: ObjectMessages,
  { nuid, bytes, chunks }: ObjectMeta,
): AsyncGenerator<Piece | undefined> {
  let [left, sequence] = [bytes, 0];
  for (let index = 0; index < chunks; index += 1) {
    const found = await messages.fetchFrom(chunkSubject(messages.bucket, nuid), sequence + 1);
    if (found === undefined || found.data.length === 0 || found.data.length > left) return yield undefined;
    left -= found.data.length;
    sequence = found.sequence;
    yield { content: found.data, isKept: false };
  }
  if (left > 0) yield undefined;
}
