/** The coordinator's world over one NATS connection. */
import type { KeyHolder, CoordinatorPorts } from "#actor/coordinator-ports.ts";
import { DeviceRecord } from "#protocol/admin.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { encode } from "#protocol/envelope.ts";
import {
  adminSubject,
  adminSubjects,
  askSubjects,
  buckets,
  objectStores,
  objectSubjects,
  pairSubject,
  prefetchSubject,
} from "#protocol/names.ts";
import { Invitation, PairedAgent } from "#protocol/pairing.ts";
import { AgentRecord, BuildRecord, DeviceNote, DurationRecord } from "#protocol/records.ts";
import { isConnected } from "#bus/agent-alive.ts";
import { writeAudit } from "#bus/audit-log.ts";
import { Bucket } from "#bus/bucket.ts";
import { ChainStore } from "#bus/chain-store.ts";
import { type Connection, onDisconnect, onReconnect, signInBy } from "#bus/connection.ts";
import { listenProgress, removeLogs } from "#bus/job-log.ts";
import { openLane, publishDispatch, publishStop } from "#bus/lanes.ts";
import { objectDoor } from "#bus/object-door.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { watchPresence } from "#bus/presence.ts";
import { serve } from "#bus/rpc.ts";
import { awaitedOutlet, onSightings } from "#bus/sightings.ts";
import { declareTopology, type TopologyOptions } from "#bus/topology.ts";

/** @param identity absent for an open farm */
export function coordinatorPorts(
  connection: Connection,
  topology: TopologyOptions = {},
  identity?: KeyHolder,
): CoordinatorPorts {
  return {
    records: new ChainStore(connection),
    history: new Bucket(connection, buckets.history, StoredChain),
    devices: new Bucket(connection, buckets.devices, DeviceRecord),
    notes: new Bucket(connection, buckets.notes, DeviceNote),
    agents: new Bucket(connection, buckets.agents, AgentRecord),
    durations: new Bucket(connection, buckets.durations, DurationRecord),
    builds: new Bucket(connection, buckets.builds, BuildRecord),
    paired: new Bucket(connection, buckets.paired, PairedAgent),
    invitations: new Bucket(connection, buckets.invitations, Invitation),
    ...(identity === undefined ? {} : { identity }),
    bundles: new ObjectStore(connection, objectStores.bundles),
    artifacts: new ObjectStore(connection, objectStores.artifacts),
    objectDoors: {
      bundles: objectDoor(connection, objectStores.bundles),
      artifacts: objectDoor(connection, objectStores.artifacts),
    },
    prepare: () => declareTopology(connection, topology),
    dispatch: (agent, dispatch) => publishDispatch(connection, agent, dispatch),
    openLane: (agent, lane, slots) => openLane(connection, agent, lane, slots),
    prefetch: (agent, hint) => {
      if (!connection.isClosed()) connection.publish(prefetchSubject(agent), encode(hint));
    },
    isConnected: (agent) => isConnected(connection, agent),
    stop: (agent, order) => publishStop(connection, agent, order),
    removeLogs: (chains) => removeLogs(connection, chains),
    serveAsks: (handle) => serve(connection, askSubjects, handle),
    serveObjects: (handle) => serve(connection, objectSubjects, handle),
    // Where nobody signs in, nobody has a name that anything proves.
    serveAdmin: (handle) =>
      serve(connection, signInBy(connection) === undefined ? adminSubject : adminSubjects, handle),
    servePairing: (handle) => serve(connection, pairSubject, handle),
    audit: (entry) => writeAudit(connection, entry),
    listenProgress: (call) => listenProgress(connection, call),
    onSightings: (handle) => onSightings(connection, handle),
    publishAwaited: awaitedOutlet(connection),
    watchPresence: (signal, call) => watchPresence(connection, signal, call),
    onDisconnect: (call) => onDisconnect(connection, call),
    onReconnect: (call) => onReconnect(connection, call),
    isClosed: () => connection.isClosed(),
    flush: () => connection.flush(),
  };
}
