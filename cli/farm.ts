/** The way to the farm, with errors that tell the user what to do. */
import type { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import { InvariantError, messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import { leadTtlMs } from "#protocol/limits.ts";
import { objectStores } from "#protocol/names.ts";
import { poll } from "#actor/clock.ts";
import type { Connection } from "#bus/connection.ts";
import type { Credentials } from "#bus/identity/credentials.ts";
import { identityIn, type SignedIn, signIn } from "#bus/identity/sign-in.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { directAccess, ObjectStore } from "#bus/object-store.ts";
import { shownServers } from "#bus/server-addresses.ts";
import { shown } from "#cli/clean-text.ts";
import type { Session } from "#cli/session.ts";
import { statedBy } from "#actor/person.ts";

export type AnswerOf<K extends AdminAnswer["kind"]> = Extract<AdminAnswer, { kind: K }>;

/** The lease of one that was killed runs out before another takes over, which on a busy machine needs seconds to start. */
const restartMsMax = leadTtlMs + 7_000;
const askAgainMs = 200;

/** What stands in the way: nobody listens, or the server wants TLS. */
function reasonOf({ cause }: UnavailableError): string {
  return shown(messageOf(cause));
}

export class Farm implements AsyncDisposable {
  readonly connection: Connection;
  /** Absent in an open farm. */
  readonly credentials: Credentials | undefined;
  readonly servers: string;
  readonly #session: Session;

  private constructor({ connection, credentials, servers }: SignedIn, session: Session) {
    this.connection = connection;
    this.credentials = credentials;
    this.servers = servers;
    this.#session = session;
  }

  /** @throws UnavailableError `no-farm` when no server answers; UsageError for credentials that are of no use */
  static async open(session: Session): Promise<Farm> {
    const who = { path: session.credentials, servers: session.servers };
    const { servers } = await identityIn(who);
    try {
      return new Farm(await signIn({ ...who, name: "flashyard command line" }), session);
    } catch (cause) {
      if (!(cause instanceof UnavailableError)) throw cause;
      const message =
        `no farm answers at ${shownServers(servers)} (${reasonOf(cause)}): start one with \`flashyard up\`, ` +
        "or name its server with --server or FLASHYARD_NATS_URL";
      throw new UnavailableError("no-farm", message, { cause });
    }
  }

  /**
   * Asks the coordinator, again while none answers, for as long as a restart takes.
   * @throws UsageError when it refuses; UnavailableError when there is none, or it cannot answer now
   */
  async ask<K extends AdminAnswer["kind"]>(
    request: AdminRequest,
    kind: K,
    withinMs = restartMsMax,
  ): Promise<AnswerOf<K>> {
    const { clock, interrupted } = this.#session;
    let last: UnavailableError | undefined;
    const limits = { everyMs: askAgainMs, withinMs, signal: interrupted };
    const answer = await poll(clock, limits, async () => {
      try {
        return await this.askOnce(request, kind);
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        last = error;
        return undefined;
      }
    });
    if (answer !== undefined) return answer;
    interrupted.throwIfAborted();
    if (last?.code !== "no-responders" && last !== undefined) throw last;
    const message =
      `a NATS server answers at ${shownServers(this.servers)}, but no coordinator does: ` +
      "start one with `flashyard up`, or see why it ended";
    throw new UnavailableError("no-coordinator", message, { cause: last });
  }

  get bundles(): ObjectStore {
    return this.#store(objectStores.bundles);
  }

  get artifacts(): ObjectStore {
    return this.#store(objectStores.artifacts);
  }

  #store(bucket: string): ObjectStore {
    const access =
      this.credentials === undefined ? undefined : directAccess((digest) => this.#secretOf(bucket, digest));
    return new ObjectStore(this.connection, bucket, this.#session.clock, access);
  }

  async #secretOf(bucket: string, digest: Digest): Promise<Uint8Array> {
    const store = bucket === objectStores.bundles ? "bundles" : "artifacts";
    const { secret } = await this.ask({ v: 1, kind: "content-secret", store, digest }, "content-secret");
    return Buffer.from(secret, "base64");
  }

  /** @throws as `ask`, without trying again */
  async askOnce<K extends AdminAnswer["kind"]>(request: AdminRequest, kind: K): Promise<AnswerOf<K>> {
    const answer = await askAdmin(this.connection, { ...request, by: statedBy() });
    if (answer.kind === kind) return answer as AnswerOf<K>;
    if (answer.kind !== "refused") {
      throw new InvariantError("wrong-answer", `the coordinator answered ${answer.kind} to ${request.kind}`);
    }
    const isPassing = answer.code === "busy" || answer.code === "unavailable";
    throw new (isPassing ? UnavailableError : UsageError)(answer.code, answer.message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection.close();
  }
}
