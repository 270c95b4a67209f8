/**
 * The messages of a bucket of objects as an agent of a farm with identity reaches them. It reads a piece whose subject it knows, and
 * stores pieces under its own name; all else it asks of the coordinator.
 */
import { type JetStreamClient, jetstream } from "@nats-io/jetstream";
import type { KeyObject } from "node:crypto";
import { systemClock } from "#actor/clock.ts";
import { open } from "#actor/sealing.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { AgentId, Digest } from "#protocol/ids.ts";
import { objectStores, objectSubject } from "#protocol/names.ts";
import { contentContext, ObjectAnswer, type ObjectAsk, type ObjectStoreName } from "#protocol/objects.ts";
import type { Connection } from "#bus/connection.ts";
import { edgeApiPrefix } from "#bus/identity/permissions.ts";
import { type ObjectMeta, readFoundMeta, streamOf } from "#bus/object-layout.ts";
import {
  askMsMax,
  type FoundMessage,
  getDirectly,
  type ObjectMessages,
  sendOnce,
  type TransferEnd,
} from "#bus/object-messages.ts";
import { type ContentKey, contentKey } from "#bus/object-seal.ts";
import type { ObjectAccess } from "#bus/object-store.ts";
import { request } from "#bus/rpc.ts";

/** A copy of the stream that has not a piece yet of which the coordinator has read in the meta message gets it in milliseconds. */
const lagsMax = 10;
const lagMs = 100;

/** How an agent reaches the store. @param unseal its private key, to which the keys of contents are sealed */
export function agentAccess(agent: AgentId, unseal: KeyObject): ObjectAccess {
  return async (connection, bucket, end) => new AgentMessages({ connection, agent, unseal }, bucket, end);
}

interface Asker {
  readonly connection: Connection;
  readonly agent: AgentId;
  readonly unseal: KeyObject;
}

type Unversioned<T> = T extends ObjectAsk ? Omit<T, "v" | "store"> : never;

class AgentMessages implements ObjectMessages {
  readonly bucket: string;
  readonly owner: AgentId;
  readonly #store: ObjectStoreName;
  readonly #connection: Connection;
  readonly #client: JetStreamClient;
  readonly #end: TransferEnd;
  readonly #unseal: KeyObject;
  /** Of contents that were asked about: what their keys follow from comes with the answer, and stays the same. */
  readonly #secrets = new Map<Digest, string | undefined>();

  constructor({ connection, agent, unseal }: Asker, bucket: string, end: TransferEnd) {
    this.#unseal = unseal;
    this.bucket = bucket;
    this.owner = agent;
    this.#store = bucket === objectStores.bundles ? "bundles" : "artifacts";
    this.#connection = connection;
    this.#client = jetstream(connection);
    this.#end = end;
  }

  check(): void {
    this.#end.check();
  }

  async meta(digest: Digest): Promise<ObjectMeta | "missing" | "corrupt"> {
    const { message, secret } = await this.#ask({ kind: "meta", digest }, "meta");
    this.#secrets.set(digest, secret);
    if (message === undefined) return "missing";
    const { text, at, sequence: seq } = message;
    return readFoundMeta({ data: new TextEncoder().encode(text), time: new Date(at), seq });
  }

  async key(digest: Digest): Promise<ContentKey | undefined> {
    if (!this.#secrets.has(digest)) await this.meta(digest);
    const secret = this.#secrets.get(digest);
    if (secret === undefined) return undefined;
    const opened = open(this.#unseal, secret, contentContext(digest));
    if (opened !== undefined) return contentKey(Buffer.from(opened, "base64"));
    throw new UnavailableError("no-key", `the key of ${digest} is sealed to another agent than ${this.owner}`);
  }

  async writeMeta(digest: Digest, body: Uint8Array): Promise<void> {
    await this.#ask({ kind: "write-meta", digest, text: new TextDecoder().decode(body) }, "done");
  }

  async subjects(filter: string): Promise<ReadonlyMap<string, number>> {
    const { subjects } = await this.#ask({ kind: "subjects", filter }, "subjects");
    return new Map(Object.entries(subjects));
  }

  send(subject: string, body: Uint8Array): Promise<void> {
    return sendOnce(this.#client, subject, body, this.#end);
  }

  async fetch(subject: string): Promise<Uint8Array | undefined> {
    for (let lag = 0; lag < lagsMax; lag += 1) {
      const api = `${edgeApiPrefix}.DIRECT.GET.${streamOf(this.bucket)}.${subject}`;
      const found = await getDirectly(this.#connection, api, "", this.#end);
      if (found !== undefined) return found.data;
      await systemClock.pause(lagMs);
    }
    return undefined;
  }

  /** Of objects that a client of another make has stored; an agent may not look for messages by their sequence. */
  async fetchFrom(): Promise<FoundMessage | undefined> {
    return undefined;
  }

  async purge(filter: string): Promise<void> {
    await this.#ask({ kind: "purge", filter }, "done");
  }

  async #ask<K extends ObjectAnswer["kind"]>(
    ask: Unversioned<ObjectAsk>,
    kind: K,
  ): Promise<Extract<ObjectAnswer, { readonly kind: K }>> {
    const message = { v: 1, store: this.#store, ...ask } satisfies Record<keyof ObjectAsk, unknown>;
    const subject = objectSubject(this.owner);
    const answer = await this.#end.answer(request(this.#connection, subject, message, ObjectAnswer, askMsMax));
    if (answer.kind === kind) return answer as Extract<ObjectAnswer, { readonly kind: K }>;
    const reason = answer.kind === "refused" ? answer.reason : `it answered ${answer.kind}`;
    throw new UnavailableError("object-refused", `the coordinator: ${reason}`);
  }
}
