/** The coordinator's ports over a connection to the simulated server, as `bus/coordinator-ports.ts` has them over NATS. */
import type { Call, CoordinatorPorts, Listening, ObjectDoor, Objects } from "#actor/coordinator-ports.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { dispatchId } from "#protocol/names.ts";
import type { SimulatedConnection } from "#test/simulation/simulated-connection.ts";
import { SimulatedRecords } from "#test/simulation/simulated-records.ts";
import type { StatementWatch } from "#test/simulation/simulated-server.ts";
import { sightingsOf } from "#test/simulation/simulated-sightings.ts";
import { simulatedShelf } from "#test/simulation/simulated-shelf.ts";
import type { Subject } from "#test/simulation/simulated-subjects.ts";

const timeoutMs = 3_000;

const noObjects: Objects = { list: () => Promise.resolve([]), remove: () => Promise.resolve() };

const noDoor: ObjectDoor = {
  meta: () => Promise.resolve(undefined),
  subjects: () => Promise.resolve({}),
  writeMeta: () => Promise.resolve(),
  purge: () => Promise.resolve(),
};

export function simulatedPorts(connection: SimulatedConnection): CoordinatorPorts {
  const { world, process, end } = connection;
  const { server, network, trace } = world;
  const serve = (subject: Subject, handle: (call: Call) => void): Listening =>
    server.subjects.listen(subject, { end, called: (call) => process.deliver(() => handle(call)) });
  return {
    records: new SimulatedRecords(connection),
    history: simulatedShelf(connection, "the history", server.history),
    devices: simulatedShelf(connection, "the devices", server.devices),
    notes: simulatedShelf(connection, "the notes", server.notes),
    agents: simulatedShelf(connection, "the agents", server.agents),
    durations: simulatedShelf(connection, "the durations", server.durations),
    builds: simulatedShelf(connection, "the builds", server.builds),
    paired: simulatedShelf(connection, "the paired agents", server.paired),
    invitations: simulatedShelf(connection, "the invitations", server.invitations),
    bundles: noObjects,
    artifacts: noObjects,
    objectDoors: { bundles: noDoor, artifacts: noDoor },
    prefetch: () => undefined,
    openLane: () => Promise.resolve(),
    // What the server knows of connections is no more than what the presence tells, only sooner.
    isConnected: () => Promise.resolve(true),
    prepare: () => connection.request("prepare", timeoutMs, () => undefined),
    dispatch: (agent, dispatch) => {
      const id = dispatchId(dispatch.chain, dispatch.job, dispatch.attempt);
      trace(`${end} dispatches ${id} to ${agent}`);
      return connection.request("dispatch", timeoutMs, () => server.publish(agent, id, dispatch));
    },
    removeLogs: () => connection.request("remove logs", timeoutMs, () => undefined),
    stop: (agent, order) => {
      trace(`${end} stops ${order.chain}.${order.job}.${order.attempt} at ${agent}`);
      network.send(end, agent, () => server.orders.get(agent)?.(order));
    },
    serveAsks: (handle) => serve("asks", handle),
    serveObjects: () => ({ stop: () => undefined }),
    serveAdmin: (handle) => serve("admin", handle),
    audit: (entry) => connection.requestInOrder("audit", timeoutMs, () => trace(`${end} notes ${entry.kind}`)),
    servePairing: () => ({ stop: () => undefined }),
    listenProgress: () => ({ stop: () => undefined }),
    onSightings: (handle) =>
      sightingsOf(server).listen({ end, hear: (sightings) => process.deliver(() => handle(sightings)) }),
    publishAwaited: (devices) => sightingsOf(server).awaits(network, end, devices),
    watchPresence: (signal, call) => watchPresence(connection, signal, call),
    onDisconnect: (call) => connection.onDisconnect(call),
    onReconnect: (call) => connection.onReconnect(call),
    isClosed: () => false,
    flush: async () => {
      // The client sends it again after a reconnection.
      for (;;) {
        try {
          return await connection.request("flush", timeoutMs, () => undefined);
        } catch (error) {
          if (!(error instanceof UnavailableError)) throw error;
        }
      }
    },
  };
}

async function watchPresence(
  connection: SimulatedConnection,
  signal: AbortSignal,
  call: StatementWatch["hear"],
): Promise<void> {
  if (signal.aborted) return;
  const { world, process, end } = connection;
  const ended = Promise.withResolvers<void>();
  const watch: StatementWatch = { end, hear: (announcement) => process.deliver(() => call(announcement)) };
  let isOver = false;
  const stop = () => {
    isOver = true;
    world.server.watches.delete(watch);
    ended.resolve();
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    await connection.request("watch the presence", timeoutMs, () => {
      if (!isOver) world.server.watch(watch);
    });
    await ended.promise;
  } finally {
    stop();
  }
}
