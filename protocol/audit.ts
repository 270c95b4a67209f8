/** What the farm remembers of who has asked it for what. */
import { z } from "zod";
import { AgentId, ChainId, Configuration } from "#protocol/ids.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";

/** Who the command line says that it works for, `user@host`. Nobody proves it. */
export const StatedBy = z.string().min(1).max(200);

/**
 * One request to change something, written before anything is changed: what was asked, not what became of it. No secrets, and no more
 * than a request may name.
 */
export const AuditEntry = z.object({
  v: z.literal(1),
  /** By the coordinator's clock (ms since 1970). */
  at: z.number(),
  /** Whose credentials have asked; absent in a farm where nobody signs in. */
  name: z.string().max(100).optional(),
  by: StatedBy.optional(),
  /** The request's. */
  kind: z.string().max(40),
  chains: z.array(ChainId).max(chainsPerRequestMax).optional(),
  configurations: z
    .array(Configuration)
    .max(2 * chainsPerRequestMax)
    .optional(),
  agent: AgentId.optional(),
  /** What else was asked, in words: `drained`, `all`, `lamp.upload, by force`. */
  detail: z.string().max(400).optional(),
});
export type AuditEntry = z.infer<typeof AuditEntry>;
