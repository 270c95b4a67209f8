/** Who is paired with the farm: an agent's name, the lane that it works on, and the keys that it showed when a person let it in. */
import { z } from "zod";
import { AgentId } from "#protocol/ids.ts";
import { Lane } from "#protocol/job.ts";

/** The public half of the NKey with which somebody signs in. */
export const UserKey = z.string().regex(/^U[A-Z2-7]{55}$/);
export type UserKey = z.infer<typeof UserKey>;

/** The public half of an X25519 key, raw, in base64url: to it is sealed what only its owner may read. */
export const SealKey = z.base64url().length(43);
export type SealKey = z.infer<typeof SealKey>;

/** How a machine calls itself; shown to people and used for nothing else. */
export const HostName = z.string().min(1).max(255);

/** What an agent is known by: its name in the farm and its own public keys. */
export const AgentIdentity = z.object({ agent: AgentId, lane: Lane, user: UserKey, seal: SealKey, host: HostName });
export type AgentIdentity = z.infer<typeof AgentIdentity>;

/** Keys that an agent had before: whoever still signs in with them is cut off. */
const FormerUser = z.object({ user: UserKey, at: z.number() });

export const PairedAgent = z.object({
  v: z.literal(1),
  ...AgentIdentity.shape,
  pairedAt: z.number(),
  /** The admin who let it in, or `code` where the code alone was enough. */
  by: z.string().min(1).max(60),
  state: z.enum(["paired", "revoked"]),
  revokedAt: z.number().optional(),
  /** When its newest token ends (ms since 1970). */
  expiresAt: z.number().optional(),
  former: z.array(FormerUser).max(100).optional(),
  /** Since when nothing that it has built is flashed. */
  blockedAt: z.number().optional(),
});
export type PairedAgent = z.infer<typeof PairedAgent>;

/** Chosen by who asks for it, so that asking twice is asking once. */
export const InvitationId = z.string().regex(/^[0-9a-f]{16}$/);

/** SHA-256 of a code (`bus/identity/join-code.ts`), hexadecimal. The code itself is with the two people only. */
export const CodeHash = z.string().regex(/^[0-9a-f]{64}$/);

/** A code that a machine may join with, once; and the machine that has used it. */
export const Invitation = z.object({
  v: z.literal(1),
  id: InvitationId,
  hash: CodeHash,
  madeAt: z.number(),
  expiresAt: z.number(),
  /** The code alone is enough. */
  isUnattended: z.boolean(),
  /** Only for this lane, only under this name. */
  lane: Lane.optional(),
  agent: AgentId.optional(),
  /** Wrong codes that were tried while this one was open. */
  wrongTries: z.number().int(),
  guest: z.object({ ...AgentIdentity.shape, at: z.number() }).optional(),
  verdict: z.object({ isApproved: z.boolean(), at: z.number() }).optional(),
});
export type Invitation = z.infer<typeof Invitation>;

/** Ed25519 or P-256 (r and s, 32 bytes each), in base64url. */
const Signature = z.base64url().length(86);

const Nonce = z.base64url().min(22).max(64);

/** What is asked on `fy.pair`, by whoever can reach the farm. The texts that are signed stand below. */
export const PairAsk = z.discriminatedUnion("kind", [
  /** Nothing is said to the farm before it has shown that it is the one of the pin. */
  z.object({ v: z.literal(1), kind: z.literal("introduce"), nonce: Nonce }),
  z.object({
    v: z.literal(1),
    kind: z.literal("join"),
    code: z.string().min(1).max(64),
    ...AgentIdentity.shape,
    signature: Signature,
  }),
  /** A paired agent wants a new token. */
  z.object({
    v: z.literal(1),
    kind: z.literal("renew"),
    agent: AgentId,
    user: UserKey,
    nonce: Nonce,
    signature: Signature,
  }),
]);
export type PairAsk = z.infer<typeof PairAsk>;
export type JoinAsk = Extract<PairAsk, { readonly kind: "join" }>;
export type RenewAsk = Extract<PairAsk, { readonly kind: "renew" }>;

/** Any stranger may hear these answers: none holds a secret. A token is of no use without the key that it names. */
export const PairAnswer = z.discriminatedUnion("kind", [
  z.object({
    v: z.literal(1),
    kind: z.literal("farm"),
    /** The authority's certificate, PEM. */
    authority: z.string().max(4_000),
    seal: SealKey,
    signature: Signature,
  }),
  /** A person has to approve; `until` (ms since 1970) they can. */
  z.object({ v: z.literal(1), kind: z.literal("waiting"), until: z.number() }),
  z.object({ v: z.literal(1), kind: z.literal("joined"), token: z.string().max(16_384), expiresAt: z.number() }),
  z.object({ v: z.literal(1), kind: z.literal("refused"), code: z.string(), message: z.string() }),
]);
export type PairAnswer = z.infer<typeof PairAnswer>;

/** What the farm's authority signs to show that it is the one of the pin, for this asker, with this key to seal to. */
export function introductionText(pin: string, nonce: string, seal: SealKey): string {
  return JSON.stringify(["flashyard farm 1", pin, nonce, seal]);
}

/** What whoever joins signs with the key that it will sign in with: the code is good for these keys and this farm only. */
export function joinText(pin: string, ask: Omit<JoinAsk, "v" | "kind" | "signature">): string {
  return JSON.stringify(["flashyard join 1", pin, ask.code, ask.agent, ask.lane, ask.host, ask.user, ask.seal]);
}

export function renewalText(pin: string, { agent, user, nonce }: Pick<RenewAsk, "agent" | "user" | "nonce">): string {
  return JSON.stringify(["flashyard renewal 1", pin, agent, user, nonce]);
}
