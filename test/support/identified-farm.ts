/** A farm with identity: a real nats-server that lets nobody in without a token, the real coordinator, and people's questions. */
import { createUser, type KeyPair } from "@nats-io/nkeys";
import { systemClock } from "#actor/clock.ts";
import { silentLog } from "#actor/log.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { farmTokens, userToken } from "#bus/identity/accounts.ts";
import { agentSigner } from "#bus/identity/agent-signer.ts";
import { type FarmKeys, farmKeysIn } from "#bus/identity/farm-keys.ts";
import { type FarmRole, inboxOf, nameInRequests } from "#bus/identity/permissions.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import type { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

type AnswerOf<K extends AdminAnswer["kind"]> = Extract<AdminAnswer, { kind: K }>;

export class IdentifiedFarm implements AsyncDisposable {
  readonly keys: FarmKeys;
  readonly #folder: TemporaryFolder;
  readonly #server: EmbeddedServer;
  readonly #connections: Connection[] = [];
  #coordinator: Coordinator | undefined;
  #admin: Connection | undefined;

  private constructor(folder: TemporaryFolder, keys: FarmKeys, server: EmbeddedServer) {
    this.#folder = folder;
    this.keys = keys;
    this.#server = server;
  }

  static async start(): Promise<IdentifiedFarm> {
    const folder = await temporaryFolder();
    const keys = await farmKeysIn(`${folder.path}/identity/keys.json`);
    const identity = { keys, tokens: await farmTokens(keys, {}) };
    const server = await startEmbeddedServer({ binary: await serverBinary(), folder: `${folder.path}/nats`, identity });
    const farm = new IdentifiedFarm(folder, keys, server);
    await farm.startCoordinator();
    farm.#admin = await farm.signIn({ kind: "admin", name: "ann" });
    return farm;
  }

  get url(): string {
    return this.#server.url;
  }

  async startCoordinator(): Promise<void> {
    const own = await this.signIn({ kind: "coordinator" });
    this.#coordinator = new Coordinator(coordinatorPorts(own, {}, agentSigner(this.keys)), systemClock, silentLog);
    await this.#coordinator.start();
  }

  /** Another process takes its place. */
  async replaceCoordinator(): Promise<void> {
    await this.#coordinator?.stop();
    await this.startCoordinator();
  }

  /** As somebody to whom the farm's own keys have given a token, whatever the registry says. */
  async signIn(role: FarmRole, user: KeyPair = createUser()): Promise<Connection> {
    return this.connect(role, await userToken(this.keys, role, user), user);
  }

  async connect(role: FarmRole, token: string, user: KeyPair): Promise<Connection> {
    const name = nameInRequests(role);
    const who = { token, seed: user.getSeed(), inbox: inboxOf(role), ...(name === undefined ? {} : { name }) };
    const connection = await connect(this.url, role.kind, who);
    this.#connections.push(connection);
    return connection;
  }

  /** Asks as an admin for an answer of `kind`. */
  async ask<K extends AdminAnswer["kind"]>(kind: K, request: AdminRequest): Promise<AnswerOf<K>> {
    if (this.#admin === undefined) throw new Error("the farm has not been started");
    const answer = await askAdmin(this.#admin, request);
    if (answer.kind !== kind) throw new Error(`${kind} was expected: ${JSON.stringify(answer)}`);
    return answer as AnswerOf<K>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#coordinator?.stop();
    await Promise.all(this.#connections.map((connection) => connection.close()));
    await this.#server.stop();
    await this.#folder[Symbol.asyncDispose]();
  }
}
