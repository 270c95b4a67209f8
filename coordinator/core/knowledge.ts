/**
 * What the core knows beside the records: how long things take, what has been built, which agents are drained,
 * what is known of the devices. The shell loads
 * and keeps it (`coordinator/memory.ts`); no promise rests on it, so that losing the newest of it costs time and nothing else.
 */
import type { DeviceRecord } from "#protocol/admin.ts";
import type { AgentId, Configuration } from "#protocol/ids.ts";
import { type BlockedBuilds, nothingBlocked } from "#coordinator/core/blocked-builds.ts";
import type { BuildRecord, DeviceNote, DurationRecord } from "#protocol/records.ts";

export interface Knowledge {
  readonly durations: ReadonlyMap<Configuration, DurationRecord>;
  /** By build key. */
  readonly builds: ReadonlyMap<string, BuildRecord>;
  readonly drained: ReadonlySet<AgentId>;
  /** What people have said of devices. */
  readonly notes: ReadonlyMap<Configuration, DeviceNote>;
  /** What the last upload left on each device. */
  readonly devices: ReadonlyMap<Configuration, DeviceRecord>;
  readonly blocked: BlockedBuilds;
  /** Agents that hear a device in the network, by the name that it says. */
  readonly reach: ReadonlyMap<string, ReadonlySet<AgentId>>;
}

export const noKnowledge: Knowledge = {
  durations: new Map(),
  builds: new Map(),
  drained: new Set(),
  notes: new Map(),
  devices: new Map(),
  blocked: nothingBlocked,
  reach: new Map(),
};
