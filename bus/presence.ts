/** Agents' statements: a key in a bucket of memory, written at each change and each beat, gone when the beats end. */
import { Kvm } from "@nats-io/kv";
import { Announcement } from "#protocol/agent.ts";
import { decode, encode } from "#protocol/envelope.ts";
import type { AgentId } from "#protocol/ids.ts";
import { buckets, keySubject, presenceKey } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";

/**
 * Statements of one agent are at least this far apart. Sixteen slots with short jobs change theirs a thousand times a second,
 * which took half of the server's and the coordinator's time; nothing that hangs on a statement is decided within a second.
 */
export const statementPauseMs = 50;

interface Pace {
  /** What has come during the pause; older ones are out of date. */
  next: Announcement | undefined;
}

const paces = new WeakMap<Connection, Map<AgentId, Pace>>();

/**
 * Publishes at once, or at the end of the pause after the last statement; only the newest counts. Does not wait for the
 * store's answer: the next beat is a second away.
 */
export function announce(connection: Connection, announcement: Announcement): void {
  const ofConnection = paces.get(connection) ?? new Map<AgentId, Pace>();
  paces.set(connection, ofConnection);
  const pace = ofConnection.get(announcement.agent);
  if (pace !== undefined) {
    pace.next = announcement;
    return;
  }
  publish(connection, announcement);
  const started: Pace = { next: undefined };
  ofConnection.set(announcement.agent, started);
  setTimeout(() => {
    ofConnection.delete(announcement.agent);
    if (started.next !== undefined) announce(connection, started.next);
  }, statementPauseMs).unref();
}

function publish(connection: Connection, announcement: Announcement): void {
  if (!connection.isClosed())
    connection.publish(keySubject(buckets.presence, presenceKey(announcement.agent)), encode(announcement));
}

async function openWatch(connection: Connection) {
  const kv = await new Kvm(connection).open(buckets.presence);
  return kv.watch({ ignoreDeletes: true });
}

/**
 * Calls back with every statement, the present ones first, until the signal fires or the watch breaks (e.g. because the
 * server was restarted); the caller starts it again. @throws UnavailableError
 */
export async function watchPresence(
  connection: Connection,
  signal: AbortSignal,
  call: (announcement: Announcement) => void,
): Promise<void> {
  try {
    const opening = openWatch(connection);
    const ended = Promise.withResolvers<undefined>();
    signal.addEventListener("abort", () => ended.resolve(undefined), { once: true });
    if (signal.aborted) ended.resolve(undefined);
    // A server that goes away meanwhile lets an opening wait for seconds.
    const watch = await Promise.race([opening, ended.promise]);
    const stop = () => opening.then((opened) => opened.stop()).catch(() => undefined);
    void ended.promise.then(stop);
    if (watch === undefined) return;
    for await (const entry of watch) {
      const decoded = decode(Announcement, entry.value);
      if (decoded.ok) call(decoded.value);
    }
  } catch (error) {
    throw translate(error, "watch the presence of agents");
  }
}
