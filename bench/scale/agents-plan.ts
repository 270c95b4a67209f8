/** What the benchmark tells the process of its agents. */
import { z } from "zod";

export const AgentsPlan = z.object({
  url: z.string(),
  agents: z.number().int(),
  buildMs: z.number(),
  uploadMs: z.number(),
});
export type AgentsPlan = z.infer<typeof AgentsPlan>;

/** Said when all lanes are open. */
export const agentsOpenWords = "all lanes are open";
