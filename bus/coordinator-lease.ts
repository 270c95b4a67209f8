/**
 * The coordinator's lease: one key in a bucket of the server's memory, which expires by the age of its last write.
 *
 * 1. The first write lands only if the key is not there; each later one only on this holder's own last write, which it names by
 *    sequence and by message id: after a restart of the server the sequences of its memory begin anew.
 * 2. A refused write whose reason may be our own earlier one, of which the answer was lost, is made again on that one: the key
 *    lives from the newest write, and so does what the caller counts from its asking.
 * 3. A missing bucket is made again: the server has lost its memory, and the lease with it.
 */
import { JetStreamApiError, jetstreamManager } from "@nats-io/jetstream";
import { headers as createHeaders, nuid } from "@nats-io/nats-core";
import type { Clock } from "#actor/clock.ts";
import type { Lease } from "#actor/lease.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { LeaseHolder } from "#protocol/lease.ts";
import { buckets, bucketStream, keySubject, leaseKey } from "#protocol/names.ts";
import { storeAnswerOf } from "#bus/atomic-batch.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { declareTopology, type TopologyOptions } from "#bus/topology.ts";

/** Leaves time for two more tries before a lease of 5 s is over. */
const timeoutMs = 1_500;

const stream = bucketStream(buckets.lease);
const subject = keySubject(buckets.lease, leaseKey);

/** A write as the next one names it. */
interface Write {
  readonly sequence: number;
  readonly messageId: string;
}

export class CoordinatorLease implements Lease {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #self: Omit<LeaseHolder, "v" | "since">;
  readonly #topology: TopologyOptions;
  #since = 0;
  #last: Write | undefined;
  /** From the first write until it is certain that none of ours is there. */
  #mayHold = false;

  constructor(
    connection: Connection,
    clock: Clock,
    self: Omit<LeaseHolder, "v" | "since">,
    topology: TopologyOptions = {},
  ) {
    this.#connection = connection;
    this.#topology = topology;
    this.#clock = clock;
    this.#self = self;
  }

  async take(): Promise<boolean> {
    this.#since = this.#clock.now();
    return this.#write(undefined, "take the lease");
  }

  async renew(): Promise<boolean> {
    return this.#last !== undefined && this.#write(this.#last, "renew the lease");
  }

  async release(): Promise<void> {
    if (!this.#mayHold) return;
    try {
      const found = await this.#read();
      if (found !== undefined && this.#isOurs(found.holder)) await this.#delete(found.write.sequence);
      this.#forget();
    } catch (error) {
      throw translate(error, "release the lease");
    }
  }

  async holder(): Promise<LeaseHolder | undefined> {
    try {
      return (await this.#read())?.holder;
    } catch (error) {
      throw translate(error, "look who holds the lease");
    }
  }

  /** Invariants 1 and 2. */
  async #write(last: Write | undefined, doing: string): Promise<boolean> {
    try {
      this.#mayHold = true;
      const refused = await this.#put(last);
      if (refused === undefined) return true;
      const found = await this.#read();
      if (found !== undefined && this.#isOurs(found.holder)) {
        const again = await this.#put(found.write);
        if (again === undefined) return true;
        throw new UnavailableError("lease-refused", `${doing}: ${again}`);
      }
      this.#forget();
      if (found === undefined && last === undefined) {
        throw new UnavailableError("lease-refused", `${doing}, which nobody holds: ${refused}`);
      }
      return false;
    } catch (error) {
      throw translate(error, doing);
    }
  }

  /** @returns why the server has refused, or undefined when the write is stored */
  async #put(last: Write | undefined): Promise<string | undefined> {
    const messageId = nuid.next();
    const headers = createHeaders();
    headers.set("Nats-Msg-Id", messageId);
    headers.set("Nats-Expected-Last-Subject-Sequence", String(last?.sequence ?? 0));
    if (last !== undefined) headers.set("Nats-Expected-Last-Msg-Id", last.messageId);
    const body = encode({ v: 1, ...this.#self, since: this.#since } satisfies LeaseHolder);
    const publish = () => this.#connection.request(subject, body, { timeout: timeoutMs, headers });
    const ack = await publish().catch(async (error: unknown) => {
      const translated = translate(error, "publish");
      if (!(translated instanceof UnavailableError) || translated.code !== "no-responders") throw error;
      await declareTopology(this.#connection, this.#topology);
      return publish();
    });
    const answer = storeAnswerOf(ack.data);
    if (!answer.ok) return answer.detail;
    this.#last = { sequence: answer.sequence, messageId };
    return undefined;
  }

  /** From the stream's leader: a copy may be behind. */
  async #read(): Promise<{ readonly holder: LeaseHolder | undefined; readonly write: Write } | undefined> {
    const manager = await this.#manager();
    try {
      const message = await manager.streams.getMessage(stream, { last_by_subj: subject });
      if (message === null) return undefined;
      const decoded = decode(LeaseHolder, message.data);
      return {
        holder: decoded.ok ? decoded.value : undefined,
        write: { sequence: message.seq, messageId: message.header.get("Nats-Msg-Id") },
      };
    } catch (error) {
      // No such stream.
      if (error instanceof JetStreamApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  async #delete(sequence: number): Promise<void> {
    const manager = await this.#manager();
    await manager.streams.deleteMessage(stream, sequence).catch((error: unknown) => {
      // It has expired meanwhile.
      if (!(error instanceof JetStreamApiError)) throw error;
    });
  }

  #manager() {
    return jetstreamManager(this.#connection, { checkAPI: false, timeout: timeoutMs });
  }

  #isOurs(holder: LeaseHolder | undefined): boolean {
    return holder?.holder === this.#self.holder;
  }

  #forget(): void {
    this.#last = undefined;
    this.#mayHold = false;
  }
}
