/** What the CLI asks of the active coordinator, and how it follows chains. */
import { AdminAnswer, type StatedRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { decode } from "#protocol/envelope.ts";
import type { ChainId } from "#protocol/ids.ts";
import { adminSubject, adminSubjectOf, buckets, bucketStream, keySubject } from "#protocol/names.ts";
import { JetStreamApiError, jetstreamManager, StorageType } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { type Connection, signInBy, translate } from "#bus/connection.ts";
import { request } from "#bus/rpc.ts";

/** Of a question about the server itself. */
const lookTimeoutMs = 2_000;
/** A coordinator that is frozen takes questions and does not answer: asked again after this, its successor answers. */
const adminTimeoutMs = 4_000;
/** Thousands of objects may have to be deleted. */
const pruneTimeoutMs = 60_000;

/** @throws UnavailableError when no coordinator answers. */
export function askAdmin(connection: Connection, message: StatedRequest): Promise<AdminAnswer> {
  const timeoutMs = message.kind === "prune-cache" ? pruneTimeoutMs : adminTimeoutMs;
  const name = signInBy(connection)?.name;
  const subject = name === undefined ? adminSubject : adminSubjectOf(name);
  return request(connection, subject, message, AdminAnswer, timeoutMs);
}

export const chainsStream = bucketStream(buckets.chains);

export interface StreamFacts {
  readonly allowsAtomic: boolean;
  readonly replicas: number;
  readonly isOnDisk: boolean;
}

/** What a stream is like that people may look at; undefined when there is none: no coordinator has ever been here. @throws UnavailableError */
export async function streamFacts(connection: Connection, stream: string): Promise<StreamFacts | undefined> {
  try {
    const manager = await jetstreamManager(connection, { checkAPI: false, timeout: lookTimeoutMs });
    const { config } = await manager.streams.info(stream);
    return {
      allowsAtomic: config.allow_atomic === true,
      replicas: config.num_replicas,
      isOnDisk: config.storage === StorageType.File,
    };
  } catch (error) {
    if (error instanceof JetStreamApiError && error.status === 404) return undefined;
    throw translate(error, `look at ${stream}`);
  }
}

/**
 * Calls back with the present state of some live chains and with every change of them, until the signal fires. A chain that
 * is archived has been seen finished before. The records hold secrets. `ready` is called when nothing can be missed any more.
 * @throws UnavailableError
 */
export async function watchChains(
  connection: Connection,
  ids: readonly ChainId[],
  signal: AbortSignal,
  call: (chain: Chain) => void,
  ready?: () => void,
): Promise<void> {
  try {
    const kv = await new Kvm(connection).open(buckets.chains, { allow_direct: true });
    const watch = await kv.watch({ key: ids.length === 1 ? (ids[0] ?? ">") : ">", ignoreDeletes: true });
    const wanted = new Set<string>(ids);
    signal.addEventListener("abort", () => watch.stop(), { once: true });
    if (signal.aborted) watch.stop();
    ready?.();
    for await (const entry of watch) {
      if (!wanted.has(entry.key)) continue;
      const decoded = decode(StoredChain, entry.value);
      if (decoded.ok) call(decoded.value);
    }
  } catch (error) {
    throw translate(error, `watch ${keySubject(buckets.chains, ">")}`);
  }
}
