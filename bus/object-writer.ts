/**
 * Brings a content to its bucket.
 *
 * 1. What is there is not sent again: neither an object that is whole, nor a piece that an earlier transfer or somebody else brought.
 * 2. It has ended when all pieces were seen behind its meta message: somebody may remove the object at the same time.
 */
import { createHash } from "node:crypto";
import type { Clock } from "#actor/clock.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import { inOrder, Pace } from "#bus/in-order.ts";
import { encodePiece, encodingOf } from "#bus/object-codec.ts";
import type { Content } from "#bus/object-content.ts";
import {
  chunkSubject,
  freshMsMax,
  type Layout,
  layoutOf,
  objectBytesMax,
  type ObjectMeta,
  pieceBytes,
  pieceCount,
  pieceLength,
  pieceSubject,
  writeMeta,
  type WrittenMeta,
} from "#bus/object-layout.ts";
import type { ObjectMessages } from "#bus/object-messages.ts";
import type { ContentKey } from "#bus/object-seal.ts";

/** Compressed ahead of the sending: twice the processors of a small machine. */
const encodedMax = 4;
/** Sent and not yet stored: 4 MiB keep a disk and a network busy together. */
const sentMax = 8;
/** Somebody who removes an object as often as it is stored means it. */
const roundsMax = 3;

export interface Storing {
  readonly digest: Digest;
  readonly content: Content;
  readonly clock: Clock;
  /** Called for each piece that is in the bucket. */
  readonly onPiece: (() => void) | undefined;
}

/** @throws UsageError for content that is too large or not the digest's; UnavailableError; what the client throws */
export async function storeObject(messages: ObjectMessages, storing: Storing): Promise<void> {
  const { digest, content, clock } = storing;
  if (content.bytes > objectBytesMax) {
    throw new UsageError("object-too-large", `${content.bytes} bytes are more than the ${objectBytesMax} of an object`);
  }
  const now = clock.now();
  const key = await messages.key(digest);
  const isSealed = key !== undefined;
  if (await isStored(messages, digest, isSealed, now - freshMsMax)) return;
  const layout = layoutOf(messages.owner, digest, { encoding: await encodingOf(content), isSealed }, now);
  for (let round = 0; round < roundsMax; round += 1) {
    const sent = await sendPieces(messages, layout, key, storing);
    const meta = { layout, digest, bytes: content.bytes, ...sent };
    await messages.writeMeta(digest, writeMeta(messages.bucket, meta, now));
    if (await isStored(messages, digest, isSealed)) return;
  }
  throw new UnavailableError("removed", `${digest} is removed as often as it is stored`);
}

/** In a farm that has an identity since yesterday, what was stored in the clear before does not count. */
async function isStored(
  messages: ObjectMessages,
  digest: Digest,
  isSealed: boolean,
  since = -Infinity,
): Promise<boolean> {
  const meta = await messages.meta(digest);
  if (typeof meta !== "object" || meta.contentDigest !== digest || meta.at < since) return false;
  return (meta.pieces?.isSealed ?? false) === isSealed && isWhole(messages, meta);
}

/** Whether all messages of an object are there; what is in them is seen by who reads them. */
export async function isWhole(messages: ObjectMessages, { nuid, pieces, chunks }: ObjectMeta): Promise<boolean> {
  const subject = chunkSubject(messages.bucket, nuid);
  const found = await messages.subjects(subject);
  if (pieces === undefined) return (found.get(subject) ?? 0) === chunks;
  return pieces.checks.every((check, index) => found.has(pieceSubject(messages.bucket, nuid, index, check)));
}

type Sent = Pick<WrittenMeta, "checks" | "storedBytes" | "storedDigest">;

/** Invariant 1. @throws UsageError when the content is not the digest's */
async function sendPieces(
  messages: ObjectMessages,
  layout: Layout,
  key: ContentKey | undefined,
  { digest, content, clock, onPiece }: Storing,
): Promise<Sent> {
  const found = await messages.subjects(chunkSubject(messages.bucket, layout.nuid));
  const whole = createHash("sha256");
  const stored = createHash("sha256");
  const [checks, subjects] = [[] as string[], new Set<string>()];
  const pace = new Pace(clock, sentMax);
  let storedBytes = 0;

  const encoded = inOrder(
    plainPieces(messages, content),
    () => encodedMax,
    async ({ index, plain }) => {
      whole.update(plain);
      return encodePiece({ encoding: layout.encoding, key }, index, plain);
    },
  );
  const sent = inOrder(
    encoded,
    () => pace.width,
    async ({ check, body }) => {
      const subject = pieceSubject(messages.bucket, layout.nuid, checks.length, check);
      stored.update(body);
      storedBytes += body.length;
      checks.push(check);
      subjects.add(subject);
      if (!found.has(subject)) await pace.time(messages.send(subject, body));
    },
  );
  for await (const _ of sent) onPiece?.();

  const isRight = whole.digest("hex") === digest;
  // Pieces of what is not the digest's content, ours or of somebody before us: the tools would read them as a part of it.
  const stray = isRight ? [...found.keys()].filter((subject) => !subjects.has(subject)) : [...subjects];
  for (const subject of stray) await messages.purge(subject);
  if (!isRight) throw new UsageError("file-changed", `what was to be stored as ${digest} has another digest`);
  return { checks, storedBytes, storedDigest: stored.digest("hex") };
}

async function* plainPieces(
  messages: ObjectMessages,
  content: Content,
): AsyncGenerator<{ readonly index: number; readonly plain: Uint8Array }> {
  for (let index = 0; index < pieceCount(content.bytes); index += 1) {
    messages.check();
    yield { index, plain: await content.read(index * pieceBytes, pieceLength(content.bytes, index)) };
  }
}
