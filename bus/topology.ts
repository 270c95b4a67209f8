/**
 * Declares the farm's streams and buckets; doing it again changes nothing.
 *
 * What must survive is on disk: chains, history, devices, what was learned, what people said of agents and
 * devices, logs, bundles, artifacts. The lanes and the presence are in memory:
 * they repeat what the records and the agents say anyway, and the coordinator fills them again after a server restart. So is the
 * lease, which is taken anew.
 */
import {
  JetStreamApiError,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from "@nats-io/jetstream";
import {
  buckets,
  bucketStream,
  keySubject,
  laneSubjects,
  logSubjects,
  objectStores,
  streams,
} from "#protocol/names.ts";
import { UsageError } from "#protocol/errors.ts";
import { leadTtlMs, presenceTtlMs } from "#protocol/limits.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { requireAtomic } from "#bus/server-check.ts";

const nanosPerMs = 1_000_000;
const dayMs = 24 * 60 * 60 * 1000;

/** JetStream's error when what a stream reserves is more than is left of the server's store. */
const noRoom = 10_047;

function needs({ max_bytes: bytes = 0 }: Declaration): string {
  return `it reserves ${bytes / 1024 ** 3} GiB; free some of the disk, or give \`max_file_store\` of the server more`;
}

type Declaration = Partial<StreamConfig> & { readonly name: string; readonly subjects: string[] };

function bucket(name: string, extra: Partial<StreamConfig> = {}): Declaration {
  return {
    name: bucketStream(name),
    subjects: [keySubject(name, ">")],
    max_msgs_per_subject: 1,
    allow_direct: true,
    allow_rollup_hdrs: true,
    deny_delete: true,
    ...extra,
  };
}

function objectStore(name: string): Declaration {
  return {
    name: `OBJ_${name}`,
    subjects: [`$O.${name}.C.>`, `$O.${name}.M.>`],
    allow_direct: true,
    allow_rollup_hdrs: true,
    max_age: 30 * dayMs * nanosPerMs,
  };
}

/** Names as in DESIGN's "Names on the wire"; numbers with their reasons. */
export const declarations: readonly Declaration[] = [
  // One atomic batch per bulk; the TTL lets removal markers of archived chains disappear, so that a start stays short.
  bucket(buckets.chains, { allow_atomic: true, allow_msg_ttl: true }),
  // What has ended meanwhile is archived in one batch, and pruned by the coordinator.
  bucket(buckets.history, { allow_atomic: true }),
  bucket(buckets.devices, { allow_atomic: true }),
  bucket(buckets.notes, { allow_atomic: true }),
  bucket(buckets.agents, { allow_atomic: true }),
  bucket(buckets.durations, { allow_atomic: true }),
  bucket(buckets.builds, { allow_atomic: true }),
  bucket(buckets.presence, { storage: StorageType.Memory, max_age: presenceTtlMs * nanosPerMs, deny_delete: false }),
  // Who leads gives it up by deleting its message: a removal marker would be in the way of the next one's first write.
  bucket(buckets.lease, { storage: StorageType.Memory, max_age: leadTtlMs * nanosPerMs, deny_delete: false }),
  {
    name: streams.lanes,
    subjects: [...laneSubjects],
    storage: StorageType.Memory,
    retention: RetentionPolicy.Workqueue,
    max_age: dayMs * nanosPerMs,
    duplicate_window: 120_000 * nanosPerMs,
  },
  // Logs go with their chains (`coordinator/history-keeper.ts`); the size, which the server reserves, only guards the disk.
  { name: streams.logs, subjects: [logSubjects], max_bytes: 2 * 1024 ** 3 },
  objectStore(objectStores.bundles),
  objectStore(objectStores.artifacts),
];

/**
 * A stream that an older flashyard made without atomic batches is brought up to its declaration; what an operator has set otherwise
 * stays. @throws UsageError when the server drops `allow_atomic`; UnavailableError when it does not answer. `checkServer` comes first.
 */
export async function declareTopology(connection: Connection): Promise<void> {
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 5_000 });
  for (const declaration of declarations) {
    try {
      const found = await manager.streams.info(declaration.name).catch(() => undefined);
      const isOutdated = declaration.allow_atomic === true && found?.config.allow_atomic !== true;
      const stands =
        found === undefined
          ? await manager.streams.add(declaration)
          : isOutdated
            ? await manager.streams.update(declaration.name, { ...found.config, ...declaration })
            : found;
      if (declaration.allow_atomic === true) requireAtomic(stands.config);
    } catch (error) {
      if (error instanceof JetStreamApiError && error.code === noRoom) {
        throw new UsageError(
          "disk-too-small",
          `the NATS server has no room left for ${declaration.name}: ${needs(declaration)}`,
        );
      }
      throw translate(error, `declare ${declaration.name}`);
    }
  }
}
