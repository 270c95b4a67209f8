/** What a process of ours is told so that its types are stripped once and not at each start: half of a short command's time. */
import { homedir } from "node:os";
import { join } from "node:path";

export const compiledOnce = { NODE_COMPILE_CACHE: join(homedir(), ".cache", "flashyard-test", "node") } as const;
