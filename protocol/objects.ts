/**
 * What an agent asks of the store of objects through the coordinator, which knows what is the agent's business. Contents do not
 * go this way: an agent reads pieces from the store, and writes them there under its own name.
 */
import { z } from "zod";
import { Digest } from "#protocol/ids.ts";

export const ObjectStoreName = z.enum(["bundles", "artifacts"]);
export type ObjectStoreName = z.infer<typeof ObjectStoreName>;

/** Of a meta message: one of the largest content has 2,048 pieces, with a check of eight characters each. */
const metaTextMax = 65_536;
const subjectMax = 300;

const Common = { v: z.literal(1), store: ObjectStoreName } as const;

export const ObjectAsk = z.discriminatedUnion("kind", [
  /** What the store knows of an object. */
  z.object({ kind: z.literal("meta"), ...Common, digest: Digest }),
  /** Which pieces are there. */
  z.object({ kind: z.literal("subjects"), ...Common, filter: z.string().max(subjectMax) }),
  /** All pieces of an object are there: `text` says so. */
  z.object({ kind: z.literal("write-meta"), ...Common, digest: Digest, text: z.string().max(metaTextMax) }),
  /** Pieces that the agent has sent are of no use. */
  z.object({ kind: z.literal("purge"), ...Common, filter: z.string().max(subjectMax) }),
]);
export type ObjectAsk = z.infer<typeof ObjectAsk>;

export const ObjectAnswer = z.discriminatedUnion("kind", [
  z.object({
    v: z.literal(1),
    kind: z.literal("meta"),
    /** Absent: there is no such object. `at` in ms since 1970. */
    message: z.object({ text: z.string(), at: z.number(), sequence: z.number() }).optional(),
    /** What the content's key follows from, 32 bytes in base64, sealed to the agent; absent in an open farm. */
    secret: z.string().max(400).optional(),
  }),
  z.object({ v: z.literal(1), kind: z.literal("subjects"), subjects: z.record(z.string(), z.number()) }),
  z.object({ v: z.literal(1), kind: z.literal("done") }),
  /** `isPassing`: to be asked again. */
  z.object({ v: z.literal(1), kind: z.literal("refused"), reason: z.string(), isPassing: z.boolean() }),
]);
export type ObjectAnswer = z.infer<typeof ObjectAnswer>;

/** What a content's secret is sealed for: it opens as that of no other. */
export function contentContext(digest: Digest): string {
  return `content ${digest}`;
}
