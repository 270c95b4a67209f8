/** A real nats-server of a farm with identity, for one test file, and whoever signs in to it. */
import { createUser } from "@nats-io/nkeys";
import { type Connection, connect } from "#bus/connection.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import { farmTokens, userToken } from "#bus/identity/accounts.ts";
import { type FarmKeys, farmKeysIn } from "#bus/identity/farm-keys.ts";
import { type FarmRole, inboxOf } from "#bus/identity/permissions.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

export class SecuredServer implements AsyncDisposable {
  readonly keys: FarmKeys;
  readonly server: EmbeddedServer;
  readonly #folder: TemporaryFolder;
  readonly #connections: Connection[] = [];

  constructor(keys: FarmKeys, server: EmbeddedServer, folder: TemporaryFolder) {
    this.keys = keys;
    this.server = server;
    this.#folder = folder;
  }

  /** A connection that is closed with the server. */
  async signIn(role: FarmRole): Promise<Connection> {
    const inbox = inboxOf(role);
    const user = createUser();
    const identity =
      role.kind === "stranger" ? {} : { token: await userToken(this.keys, role, user), seed: user.getSeed() };
    const connection = await connect(this.server.url, role.kind, { ...identity, inbox });
    this.#connections.push(connection);
    return connection;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
    await this.server.stop();
    await this.#folder[Symbol.asyncDispose]();
  }
}

export async function securedServer(): Promise<SecuredServer> {
  const folder = await temporaryFolder();
  const keys = await farmKeysIn(`${folder.path}/identity/keys.json`);
  const identity = { keys, tokens: await farmTokens(keys, {}) };
  const server = await startEmbeddedServer({ binary: await serverBinary(), folder: `${folder.path}/nats`, identity });
  return new SecuredServer(keys, server, folder);
}
