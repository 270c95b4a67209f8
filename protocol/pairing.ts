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
});
export type PairedAgent = z.infer<typeof PairedAgent>;
