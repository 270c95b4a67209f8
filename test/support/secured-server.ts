/** A real nats-server of a farm with identity, which lets nobody in without a token, for one test file, and whoever signs in to it. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createUser, type KeyPair } from "@nats-io/nkeys";
import { type Connection, connect } from "#bus/connection.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import { farmTokens, userToken } from "#bus/identity/accounts.ts";
import { serverCertificate } from "#bus/identity/authority.ts";
import type { Credentials } from "#bus/identity/credentials.ts";
import { type FarmKeys, farmKeysIn } from "#bus/identity/farm-keys.ts";
import { farmOf } from "#bus/identity/identity-folder.ts";
import { type FarmRole, inboxOf, nameInRequests } from "#bus/identity/permissions.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

type Start = (port?: number) => Promise<EmbeddedServer>;

export class SecuredServer implements AsyncDisposable {
  readonly keys: FarmKeys;
  /** What its members know of the farm. */
  readonly farm: Credentials["farm"];
  readonly #folder: TemporaryFolder;
  readonly #start: Start;
  readonly #connections: Connection[] = [];
  #server: EmbeddedServer;

  constructor(
    folder: TemporaryFolder,
    known: Pick<SecuredServer, "keys" | "farm">,
    server: EmbeddedServer,
    start: Start,
  ) {
    this.#folder = folder;
    this.keys = known.keys;
    this.farm = known.farm;
    this.#server = server;
    this.#start = start;
  }

  get url(): string {
    return this.#server.url;
  }

  get folder(): string {
    return this.#folder.path;
  }

  /** The server forgets what it was told since its first start; the connections come back by themselves. */
  async restart(): Promise<void> {
    const { port } = this.#server;
    await this.#server.stop();
    this.#server = await this.#start(port);
  }

  /** As somebody to whom the farm's own keys have given a token. The connection is closed with the server. */
  async signIn(role: FarmRole, user: KeyPair = createUser()): Promise<Connection> {
    return this.connect(role, role.kind === "stranger" ? undefined : await userToken(this.keys, role, user), user);
  }

  async connect(role: FarmRole, token: string | undefined, user: KeyPair): Promise<Connection> {
    const name = nameInRequests(role);
    const connection = await connect(this.url, role.kind, {
      ...(token === undefined ? {} : { token, seed: user.getSeed() }),
      inbox: inboxOf(role),
      authority: this.farm.authority,
      ...(name === undefined ? {} : { name }),
    });
    this.#connections.push(connection);
    return connection;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
    await this.#server.stop();
    await this.#folder[Symbol.asyncDispose]();
  }
}

/** @param hosts in the server's certificate; absent: no TLS */
export async function securedServer(hosts?: readonly string[]): Promise<SecuredServer> {
  const folder = await temporaryFolder();
  const keys = await farmKeysIn(join(folder.path, "identity", "keys.json"));
  const [binary, tokens, farm] = await Promise.all([serverBinary(), farmTokens(keys, {}), farmOf(keys)]);
  const tls = hosts === undefined ? {} : { tls: await serverCertificate(keys, hosts, Date.now()) };
  // Each start is from what the server was told first, as that of one whose disk is new.
  const start: Start = async (port) => {
    await rm(join(folder.path, "nats", "accounts"), { recursive: true, force: true });
    const at = port === undefined ? {} : { port };
    return startEmbeddedServer({
      binary,
      folder: join(folder.path, "nats"),
      identity: { keys, tokens },
      ...tls,
      ...at,
    });
  };
  return new SecuredServer(folder, { keys, farm }, await start(), start);
}
