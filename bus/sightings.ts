/** Sightings of devices, and the list of devices that jobs wait for: hints, published and never stored. */
import type { Listening } from "#actor/coordinator-ports.ts";
import { systemClock } from "#actor/clock.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { agentOfSighting, awaitedSubject, sightingSubject, sightingSubjects } from "#protocol/names.ts";
import { Awaited, type AwaitedDevice, awaitedMax, awaitedPartsMax, Sightings } from "#protocol/sighting.ts";
import { type Connection, onDisconnect, onReconnect } from "#bus/connection.ts";
import { listen } from "#bus/rpc.ts";

/** Publishes while there is a server: the client would keep every hint of a long outage, and hints of an hour ago say nothing. */
function hints(connection: Connection): (subject: string, message: unknown) => void {
  let isConnected = true;
  onDisconnect(connection, () => (isConnected = false));
  onReconnect(connection, () => (isConnected = true));
  return (subject, message) => {
    if (isConnected && !connection.isClosed()) connection.publish(subject, encode(message));
  };
}

/** An agent's way to tell what it sees. */
export function sightingsOutlet(connection: Connection): (sightings: Sightings) => void {
  const publish = hints(connection);
  return (sightings) => publish(sightingSubject(sightings.agent), sightings);
}

/** What all upload agents see; an agent speaks for itself only. */
export function onSightings(connection: Connection, handle: (sightings: Sightings) => void): Listening {
  return listen(connection, sightingSubjects, (bytes, subject) => {
    const decoded = decode(Sightings, bytes);
    if (decoded.ok && decoded.value.agent === agentOfSighting(subject)) handle(decoded.value);
  });
}

/** The coordinator's way to tell which devices are awaited. What is beyond 10,000 of them has to wait for its turn. */
export function awaitedOutlet(connection: Connection): (devices: readonly AwaitedDevice[]) => void {
  const publish = hints(connection);
  let round = 0;
  return (devices) => {
    round = Math.max(round + 1, systemClock.now());
    const parts = Math.min(awaitedPartsMax, Math.max(1, Math.ceil(devices.length / awaitedMax)));
    for (let part = 0; part < parts; part++) {
      const some = devices.slice(part * awaitedMax, (part + 1) * awaitedMax);
      publish(awaitedSubject, { v: 1, round, part, parts, devices: some } satisfies Awaited);
    }
  };
}

/** Calls back with each list of awaited devices of which every part has come. */
export function onAwaited(connection: Connection, handle: (devices: readonly AwaitedDevice[]) => void): Listening {
  let round = 0;
  let come = new Map<number, readonly AwaitedDevice[]>();
  return listen(connection, awaitedSubject, (bytes) => {
    const decoded = decode(Awaited, bytes);
    if (!decoded.ok || decoded.value.part >= decoded.value.parts) return;
    const { part, parts, devices } = decoded.value;
    if (decoded.value.round !== round) come = new Map();
    round = decoded.value.round;
    come.set(part, devices);
    if (come.size === parts) handle([...come.values()].flat());
  });
}
