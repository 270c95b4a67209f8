/**
 * Puts a backup into an empty farm.
 *
 * 1. No coordinator works meanwhile: this holds the lease, and writes only while it does.
 * 2. Only empty streams are written; what broke off is taken away again, as far as the server still answers.
 * 3. Nothing that was under way goes on (`restored-chain.ts`): live chains are written as ended ones, which the next coordinator moves to
 *    the history like any other.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Clock } from "#actor/clock.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { BootId } from "#protocol/ids.ts";
import type { Connection } from "#bus/connection.ts";
import { CoordinatorLease } from "#bus/coordinator-lease.ts";
import { dropStreams, isEmptyStream, storeMessages } from "#bus/stream-copy.ts";
import { declareTopology, type TopologyOptions } from "#bus/topology.ts";
import { chainsStream, historyStream, type KeptStream, keptStreams, streamFile } from "#cli/backup/contents.ts";
import { type Backup, messagesIn } from "#cli/backup/read-backup.ts";
import { endedByRestore } from "#cli/backup/restored-chain.ts";

/** Four tries before a lease of 5 s runs out. */
const renewEveryMs = 1_000;

export interface Restored {
  /** Live chains that were ended. */
  readonly ended: number;
  /** Live chains that nobody could read, and that are left out. */
  readonly unreadable: number;
  readonly messages: number;
}

export interface RestoreOptions extends TopologyOptions {
  /** With new keys of the farm: whom it had let in, and what was sealed with the old ones, is left out. */
  readonly isRenewed: boolean;
}

/** @throws UsageError `coordinator-leads`, `farm-not-empty`; UnavailableError */
export async function restoreFarm(
  connection: Connection,
  backup: Backup,
  clock: Clock,
  { isRenewed, ...topology }: RestoreOptions,
): Promise<Restored> {
  await declareTopology(connection, topology);
  await using lease = await HeldByRestore.take(connection, clock, topology);
  for (const { stream } of keptStreams) {
    if (await isEmptyStream(connection, stream)) continue;
    throw new UsageError(
      "farm-not-empty",
      `${stream} holds something already, which a restore would mix with the backup: give the NATS server an empty store ` +
        "(stop it, move its folder away, start it) and restore into that; docs/operations.md says how",
    );
  }
  const kept = keptStreams.filter(
    ({ stream, isOfKeys }) => backup.has(streamFile(stream)) && !(isRenewed && isOfKeys === true),
  );
  const begun: string[] = [];
  try {
    const work = new Restoring(connection, backup, clock, lease);
    for (const one of kept) {
      begun.push(one.stream);
      await work.put(one);
    }
    return work.restored;
  } catch (error) {
    const isGone = await dropStreams(connection, begun).then(
      () => true,
      () => false,
    );
    if (isGone) throw error;
    throw new UnavailableError(
      "half-restored",
      "the restore broke off, and the server holds a part of it: start no coordinator, empty the server's store, and restore again",
      { cause: error },
    );
  }
}

class Restoring {
  restored: Restored = { ended: 0, unreadable: 0, messages: 0 };
  readonly #connection: Connection;
  readonly #backup: Backup;
  readonly #clock: Clock;
  readonly #lease: HeldByRestore;

  constructor(connection: Connection, backup: Backup, clock: Clock, lease: HeldByRestore) {
    this.#connection = connection;
    this.#backup = backup;
    this.#clock = clock;
    this.#lease = lease;
  }

  async put({ stream }: KeptStream): Promise<void> {
    const messages = stream === chainsStream ? this.#endedChains() : this.#messagesOf(stream);
    const stored = await storeMessages(this.#connection, this.#whileHeld(messages));
    this.restored = { ...this.restored, messages: this.restored.messages + stored };
  }

  async *#messagesOf(stream: string) {
    for await (const { subject, body } of messagesIn(this.#backup.pathOf(streamFile(stream)))) {
      if (subject !== undefined) yield { subject, body };
    }
  }

  /** Invariant 3. One that is in the history had ended while the backup was made. */
  async *#endedChains() {
    const inHistory = new Set<string>();
    if (this.#backup.has(streamFile(historyStream))) {
      for await (const { subject } of this.#messagesOf(historyStream)) inHistory.add(keyOf(subject));
    }
    const at = this.#clock.now();
    for await (const { subject, body } of this.#messagesOf(chainsStream)) {
      if (inHistory.has(keyOf(subject))) continue;
      const chain = decode(StoredChain, body);
      if (chain.ok) yield { subject, body: encode(endedByRestore(chain.value, this.#backup.manifest.at, at)) };
      const { ended, unreadable } = this.restored;
      this.restored = { ...this.restored, ...(chain.ok ? { ended: ended + 1 } : { unreadable: unreadable + 1 }) };
    }
  }

  /** Invariant 1. */
  async *#whileHeld<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const message of messages) {
      this.#lease.requireHeld();
      yield message;
    }
  }
}

function keyOf(subject: string): string {
  return subject.slice(subject.lastIndexOf(".") + 1);
}

/** The coordinator's lease in the hands of a restore. */
class HeldByRestore implements AsyncDisposable {
  readonly #lease: CoordinatorLease;
  readonly #ending = new AbortController();
  readonly #keeping: Promise<void>;
  #isHeld = true;

  private constructor(lease: CoordinatorLease, clock: Clock) {
    this.#lease = lease;
    this.#keeping = this.#keep(clock);
  }

  static async take(connection: Connection, clock: Clock, topology: TopologyOptions): Promise<HeldByRestore> {
    const self = { holder: BootId.parse(randomBytes(8).toString("hex")), host: hostname(), pid: process.pid };
    const lease = new CoordinatorLease(connection, clock, self, topology);
    if (await lease.take()) return new HeldByRestore(lease, clock);
    const { host = "another machine", pid = "?" } = (await lease.holder()) ?? {};
    throw new UsageError(
      "coordinator-leads",
      `a coordinator works here (process ${pid} on ${host}): a restore is for a farm without one; stop every coordinator, wait five seconds, and restore again`,
    );
  }

  /** @throws UnavailableError when somebody else may have taken it */
  requireHeld(): void {
    if (!this.#isHeld) throw new UnavailableError("lease-lost", "the lease was lost: a coordinator may have started");
  }

  async #keep(clock: Clock): Promise<void> {
    while (await clock.pause(renewEveryMs, this.#ending.signal)) {
      this.#isHeld &&= await this.#lease.renew().catch(() => false);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#keeping;
    await this.#lease.release().catch(() => undefined);
  }
}
