/**
 * What the core knows beside the records: how long things take, what has been built, which agents are drained. The shell loads
 * and keeps it (`coordinator/memory.ts`); no promise rests on it, so that losing the newest of it costs time and nothing else.
 */
import type { AgentId, Configuration } from "#protocol/ids.ts";
import type { BuildRecord, DurationRecord } from "#protocol/records.ts";

export interface Knowledge {
  readonly durations: ReadonlyMap<Configuration, DurationRecord>;
  /** By build key. */
  readonly builds: ReadonlyMap<string, BuildRecord>;
  readonly drained: ReadonlySet<AgentId>;
}

export const noKnowledge: Knowledge = { durations: new Map(), builds: new Map(), drained: new Set() };
