/** A farm with identity: its nats-server, the real coordinator, and people's questions. */
import { join } from "node:path";
import type { KeyPair } from "@nats-io/nkeys";
import { silentLog } from "#actor/log.ts";
import type { Connection } from "#bus/connection.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { keyHolder } from "#bus/identity/key-holder.ts";
import type { FarmKeys } from "#bus/identity/farm-keys.ts";
import { newCredentials } from "#bus/identity/identity-folder.ts";
import type { FarmRole } from "#bus/identity/permissions.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import type { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import { type JumpingClock, jumpingClock } from "#test/support/jumping-clock.ts";
import { type QuietEnd, runQuietly } from "#test/support/quiet-cli.ts";
import { type SecuredServer, securedServer } from "#test/support/secured-server.ts";

type AnswerOf<K extends AdminAnswer["kind"]> = Extract<AdminAnswer, { kind: K }>;

export class IdentifiedFarm implements AsyncDisposable {
  readonly clock: JumpingClock = jumpingClock();
  readonly #server: SecuredServer;
  #coordinator: Coordinator | undefined;
  #admin: Connection | undefined;

  private constructor(server: SecuredServer) {
    this.#server = server;
  }

  /** @param hosts in the server's certificate; absent: no TLS */
  static async start(hosts?: readonly string[]): Promise<IdentifiedFarm> {
    const server = await securedServer(hosts);
    const farm = new IdentifiedFarm(server);
    await farm.startCoordinator();
    const role = { kind: "admin", name: "ann" } as const;
    await newCredentials(farm.adminFile, server.keys, { role, servers: farm.url, farm: server.farm });
    farm.#admin = await farm.signIn(role);
    return farm;
  }

  get keys(): FarmKeys {
    return this.#server.keys;
  }

  get url(): string {
    return this.#server.url;
  }

  get folder(): string {
    return this.#server.folder;
  }

  get adminFile(): string {
    return join(this.folder, "admin.json");
  }

  /** A command line of the admin ann, or of another machine: its defaults lie in a folder of its own. */
  cli(...argv: readonly string[]): Promise<QuietEnd> {
    const home = join(this.folder, "home");
    const environment = { FLASHYARD_HOME: home };
    return runQuietly({ credentials: this.adminFile, environment, cacheFolder: home }, argv);
  }

  /** The server forgets what it was told since its first start; the connections come back by themselves. */
  restartServer(): Promise<void> {
    return this.#server.restart();
  }

  async startCoordinator(): Promise<void> {
    const own = await this.signIn({ kind: "coordinator" });
    const ports = coordinatorPorts(own, {}, await keyHolder(this.keys, this.url));
    this.#coordinator = new Coordinator(ports, this.clock, silentLog);
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
  signIn(role: FarmRole, user?: KeyPair): Promise<Connection> {
    return this.#server.signIn(role, user);
  }

  connect(role: FarmRole, token: string, user: KeyPair): Promise<Connection> {
    return this.#server.connect(role, token, user);
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
    await this.#server[Symbol.asyncDispose]();
  }
}
