/** The coordinator's world over one NATS connection. */
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import { DeviceRecord } from "#protocol/admin.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { adminSubject, askSubjects, buckets } from "#protocol/names.ts";
import { Bucket } from "#bus/bucket.ts";
import { ChainStore } from "#bus/chain-store.ts";
import { type Connection, onDisconnect, onReconnect } from "#bus/connection.ts";
import { listenProgress, removeLogs } from "#bus/job-log.ts";
import { publishDispatch, publishStop } from "#bus/lanes.ts";
import { watchPresence } from "#bus/presence.ts";
import { serve } from "#bus/rpc.ts";
import { declareTopology } from "#bus/topology.ts";

export function coordinatorPorts(connection: Connection): CoordinatorPorts {
  return {
    records: new ChainStore(connection),
    history: new Bucket(connection, buckets.history, StoredChain),
    devices: new Bucket(connection, buckets.devices, DeviceRecord),
    prepare: () => declareTopology(connection),
    dispatch: (agent, dispatch) => publishDispatch(connection, agent, dispatch),
    stop: (agent, order) => publishStop(connection, agent, order),
    removeLogs: (chains) => removeLogs(connection, chains),
    serveAsks: (handle) => serve(connection, askSubjects, handle),
    serveAdmin: (handle) => serve(connection, adminSubject, handle),
    listenProgress: (call) => listenProgress(connection, call),
    watchPresence: (signal, call) => watchPresence(connection, signal, call),
    onDisconnect: (call) => onDisconnect(connection, call),
    onReconnect: (call) => onReconnect(connection, call),
    isClosed: () => connection.isClosed(),
    flush: () => connection.flush(),
  };
}
