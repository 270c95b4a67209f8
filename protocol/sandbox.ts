/** What stands between a build and its machine: docs/sandbox.md. */
import { z } from "zod";

/** The weakest first. */
export const SandboxLevel = z.enum(["none", "user", "bubblewrap", "container"]);
export type SandboxLevel = z.infer<typeof SandboxLevel>;

/** Whether what an agent states is as strong as what is asked for. A level that this version does not know is none. */
export function isAtLeast(stated: string | undefined, wanted: SandboxLevel): boolean {
  const levels: readonly string[] = SandboxLevel.options;
  return Math.max(0, levels.indexOf(stated ?? "none")) >= levels.indexOf(wanted);
}
