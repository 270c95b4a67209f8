/** Agents' statements: a key in a bucket of memory, written at each change and each beat, gone when the beats end. */
import { Kvm } from "@nats-io/kv";
import { Announcement } from "#protocol/agent.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { buckets, keySubject, presenceKey } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";

/** Publishes without waiting for the store's answer: the next beat is a second away. */
export function announce(connection: Connection, announcement: Announcement): void {
  if (!connection.isClosed())
    connection.publish(keySubject(buckets.presence, presenceKey(announcement.agent)), encode(announcement));
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
    const kv = await new Kvm(connection).open(buckets.presence);
    const watch = await kv.watch({ ignoreDeletes: true });
    signal.addEventListener("abort", () => watch.stop(), { once: true });
    for await (const entry of watch) {
      const decoded = decode(Announcement, entry.value);
      if (decoded.ok) call(decoded.value);
    }
  } catch (error) {
    throw translate(error, "watch the presence of agents");
  }
}
