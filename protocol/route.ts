/** Which agents may take a job. */
import { z } from "zod";
import { AgentId, Label } from "#protocol/ids.ts";
import { SandboxLevel } from "#protocol/sandbox.ts";

/** The one that is named, and those that carry every label. */
export const Route = z.object({
  on: AgentId.optional(),
  labels: z.array(Label).max(8).default([]),
  /** Of a build: the weakest sandbox that it may run in; absent: any. */
  sandbox: SandboxLevel.optional(),
});
export type Route = z.infer<typeof Route>;
