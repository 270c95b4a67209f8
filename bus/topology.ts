/**
 * Declares the farm's streams and buckets; doing it again changes nothing.
 *
 * What must survive is on disk: chains, history, devices, what was learned, what people said of agents and
 * devices, the audit, logs, bundles, artifacts. The lanes and the presence are in memory:
 * they repeat what the records and the agents say anyway, and the coordinator fills them again after a server restart. So is the
 * lease, which is taken anew.
 */
import {
  DiscardPolicy,
  JetStreamApiError,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamAPI,
  type StreamConfig,
} from "@nats-io/jetstream";
import {
  auditSubject,
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
import { replicasFor, type ReplicaWish } from "#bus/replicas.ts";
import { requireAtomic } from "#bus/server-check.ts";

const nanosPerMs = 1_000_000;
const dayMs = 24 * 60 * 60 * 1000;

/** JetStream's error when what a stream reserves is more than is left of the server's store. */
const noRoom = 10_047;
/** And those for fewer servers than replicas: in a cluster, and without one. */
const withoutPeers: ReadonlySet<number> = new Set([10_005, 10_074]);

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
  bucket(buckets.paired, { allow_atomic: true }),
  bucket(buckets.invitations, { allow_atomic: true }),
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
  // What was written stays until it is too old or too much: a single request has 300 bytes, a bulk of 1,000 devices some 60 kB.
  {
    name: streams.audit,
    subjects: [auditSubject],
    max_age: 365 * dayMs * nanosPerMs,
    max_bytes: 128 * 1024 ** 2,
    discard: DiscardPolicy.Old,
    deny_delete: true,
    deny_purge: true,
  },
  objectStore(objectStores.bundles),
  objectStore(objectStores.artifacts),
];

export interface TopologyOptions {
  /** Left out: `auto`. */
  readonly replicas?: ReplicaWish;
  /** Told what has changed, and what could not be, a line each. */
  readonly tell?: (line: string) => void;
}

/**
 * A stream that an older flashyard made without atomic batches is brought up to its declaration, and one with other replicas to those
 * that the farm is to have; what an operator has set otherwise stays.
 * @throws UsageError when the server drops `allow_atomic`; UnavailableError when it does not answer. `checkServer` comes first.
 */
export async function declareTopology(connection: Connection, options: TopologyOptions = {}): Promise<void> {
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 2_000 });
  for (const declaration of declarations) {
    try {
      const stands = await declare(manager.streams, declaration, connection, options);
      if (declaration.allow_atomic === true) requireAtomic(stands);
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

/** @returns the configuration that the stream has now */
async function declare(
  streams: StreamAPI,
  declaration: Declaration,
  connection: Connection,
  { replicas: wish = "auto", tell = () => undefined }: TopologyOptions,
): Promise<StreamConfig> {
  const { name } = declaration;
  const found = await streams.info(name).catch((error: unknown) => {
    if (error instanceof JetStreamApiError && error.status === 404) return undefined;
    throw error;
  });
  const replicas = replicasFor(wish, connection.info?.cluster !== undefined, found?.config.num_replicas);
  if (found === undefined) {
    const added = await streams.add({ ...declaration, num_replicas: replicas }).catch((error: unknown) => {
      if (wish !== "auto" || !isWithoutPeers(error)) throw tooFewServers(error, replicas);
      tell(`${name} has one replica: fewer than ${replicas} servers of the cluster are there`);
      return streams.add({ ...declaration, num_replicas: 1 });
    });
    return added.config;
  }
  const isOutdated = declaration.allow_atomic === true && found.config.allow_atomic !== true;
  const before = found.config.num_replicas;
  if (!isOutdated && before === replicas) return found.config;
  const config = { ...found.config, ...(isOutdated ? declaration : {}), num_replicas: replicas };
  try {
    const updated = await streams.update(name, config);
    if (before !== replicas) tell(`${name} goes from ${before} to ${replicas} replicas`);
    return updated.config;
  } catch (error) {
    if (wish !== "auto" || !isWithoutPeers(error)) throw tooFewServers(error, replicas);
    tell(`${name} stays at ${before} replicas: fewer than ${replicas} servers of the cluster are there`);
    return isOutdated ? (await streams.update(name, { ...config, num_replicas: before })).config : found.config;
  }
}

function isWithoutPeers(error: unknown): boolean {
  return error instanceof JetStreamApiError && withoutPeers.has(error.code);
}

/** The same error, or what a person can do about it. */
function tooFewServers(error: unknown, replicas: number): unknown {
  if (!isWithoutPeers(error)) return error;
  const message = `FLASHYARD_REPLICAS is ${replicas}, and the NATS cluster has not as many servers with JetStream: start them, or set auto`;
  return new UsageError("too-few-servers", message, { cause: error });
}
