/** Agents' statements: a key in a bucket of memory, written at each change and each beat, gone when the beats end. */
import { untilFired } from "#actor/until-fired.ts";
import { Announcement } from "#protocol/agent.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import { agentOfPresence, buckets, bucketStream, keySubject, presenceKey } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { listen } from "#bus/rpc.ts";
import { readStream } from "#bus/stream-reader.ts";

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

/**
 * Calls back with every statement, those that are stored first, until the signal fires. It listens to the agents themselves and not to
 * the bucket's stream: in a cluster that falls silent with the server that leads it, and then all agents would seem to be gone.
 */
export async function watchPresence(
  connection: Connection,
  signal: AbortSignal,
  call: (announcement: Announcement) => void,
): Promise<void> {
  if (signal.aborted) return;
  const heard = new Set<AgentId>();
  const hear = (bytes: Uint8Array, subject: string, isStored: boolean) => {
    const decoded = decode(Announcement, bytes);
    if (!decoded.ok || signal.aborted || (isStored && heard.has(decoded.value.agent))) return;
    // The server lets an agent publish under its own name only; what it says there is its own affair.
    if (decoded.value.agent !== agentOfPresence(subject)) return;
    heard.add(decoded.value.agent);
    call(decoded.value);
  };
  const listening = listen(connection, keySubject(buckets.presence, "*"), (bytes, subject) =>
    hear(bytes, subject, false),
  );
  await Promise.race([readStored(connection, (bytes, subject) => hear(bytes, subject, true)), untilFired(signal)]);
  await untilFired(signal);
  listening.stop();
}

/** What cannot be read now is said again with the next beat. */
async function readStored(connection: Connection, call: (bytes: Uint8Array, subject: string) => void): Promise<void> {
  try {
    for await (const message of readStream(connection, bucketStream(buckets.presence))) {
      if (message.headers?.has("KV-Operation") !== true) call(message.data, message.subject);
    }
  } catch (error) {
    const translated = translate(error, "read the presence of agents");
    if (!(translated instanceof UnavailableError)) throw translated;
  }
}
