/** A farm with identity: a real nats-server that lets nobody in without a token, the real coordinator, and people's questions. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createUser, type KeyPair } from "@nats-io/nkeys";
import { silentLog } from "#actor/log.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { farmTokens, userToken } from "#bus/identity/accounts.ts";
import { agentSigner } from "#bus/identity/agent-signer.ts";
import { serverCertificate } from "#bus/identity/authority.ts";
import { type FarmKeys, farmKeysIn } from "#bus/identity/farm-keys.ts";
import { farmOf, newCredentials } from "#bus/identity/identity-folder.ts";
import { type FarmRole, inboxOf, nameInRequests } from "#bus/identity/permissions.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import type { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import { type JumpingClock, jumpingClock } from "#test/support/jumping-clock.ts";
import { type QuietEnd, runQuietly } from "#test/support/quiet-cli.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

type AnswerOf<K extends AdminAnswer["kind"]> = Extract<AdminAnswer, { kind: K }>;

export class IdentifiedFarm implements AsyncDisposable {
  readonly keys: FarmKeys;
  readonly #folder: TemporaryFolder;
  readonly #start: (port?: number) => Promise<EmbeddedServer>;
  readonly clock: JumpingClock = jumpingClock();
  #server: EmbeddedServer;
  readonly #connections: Connection[] = [];
  #coordinator: Coordinator | undefined;
  #admin: Connection | undefined;

  private constructor(
    folder: TemporaryFolder,
    keys: FarmKeys,
    server: EmbeddedServer,
    start: (port?: number) => Promise<EmbeddedServer>,
  ) {
    this.#folder = folder;
    this.keys = keys;
    this.#server = server;
    this.#start = start;
  }

  /** @param hosts in the server's certificate; absent: no TLS */
  static async start(hosts?: readonly string[]): Promise<IdentifiedFarm> {
    const folder = await temporaryFolder();
    const keys = await farmKeysIn(`${folder.path}/identity/keys.json`);
    const [binary, tokens] = await Promise.all([serverBinary(), farmTokens(keys, {})]);
    const tls = hosts === undefined ? {} : { tls: await serverCertificate(keys, hosts, Date.now()) };
    // Each start is from what the server was told first, as that of one whose disk is new.
    const start = async (port?: number) => {
      await rm(`${folder.path}/nats/accounts`, { recursive: true, force: true });
      const at = port === undefined ? {} : { port };
      return startEmbeddedServer({ binary, folder: `${folder.path}/nats`, identity: { keys, tokens }, ...tls, ...at });
    };
    const farm = new IdentifiedFarm(folder, keys, await start(), start);
    await farm.startCoordinator();
    const role = { kind: "admin", name: "ann" } as const;
    await newCredentials(farm.adminFile, keys, { role, servers: farm.url, farm: await farmOf(keys) });
    farm.#admin = await farm.signIn(role);
    return farm;
  }

  get url(): string {
    return this.#server.url;
  }

  get folder(): string {
    return this.#folder.path;
  }

  get adminFile(): string {
    return join(this.#folder.path, "admin.json");
  }

  /** A command line of the admin ann, or of another machine: its defaults lie in a folder of its own. */
  cli(...argv: readonly string[]): Promise<QuietEnd> {
    const home = join(this.#folder.path, "home");
    const environment = { FLASHYARD_HOME: home };
    return runQuietly({ credentials: this.adminFile, environment, cacheFolder: home }, argv);
  }

  /** The server forgets what it was told since its first start; the connections come back by themselves. */
  async restartServer(): Promise<void> {
    const { port } = this.#server;
    await this.#server.stop();
    this.#server = await this.#start(port);
  }

  async startCoordinator(): Promise<void> {
    const own = await this.signIn({ kind: "coordinator" });
    this.#coordinator = new Coordinator(
      coordinatorPorts(own, {}, await agentSigner(this.keys, this.url)),
      this.clock,
      silentLog,
    );
    await this.#coordinator.start();
  }

  async stopCoordinator(): Promise<void> {
    await this.#coordinator?.stop();
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
    const { authority } = await farmOf(this.keys);
    const who = {
      token,
      seed: user.getSeed(),
      inbox: inboxOf(role),
      authority,
      ...(name === undefined ? {} : { name }),
    };
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
