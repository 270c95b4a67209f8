/** A real nats-server for one test file, which can be killed without warning and comes back on its port with its store. */
import { homedir } from "node:os";
import { join } from "node:path";
import { type Connection, connect, onReconnect } from "#bus/connection.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import { resolveServerBinary } from "#bus/server-binary.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

/** Path of a nats-server that the farm accepts, found as `flashyard up` finds it. A machine without one fails the test. */
export async function serverBinary(): Promise<string> {
  const found = await resolveServerBinary({ cacheFolder: join(homedir(), ".cache", "flashyard") });
  return found.path;
}

interface Running {
  readonly server: EmbeddedServer;
  readonly pid: number;
}

export class TestServer implements AsyncDisposable {
  readonly #home: TemporaryFolder;
  readonly #binary: string;
  readonly #connections: { readonly connection: Connection; readonly back: Arrivals<string> }[] = [];
  #running: Running;

  constructor(home: TemporaryFolder, binary: string, running: Running) {
    this.#home = home;
    this.#binary = binary;
    this.#running = running;
  }

  get url(): string {
    return this.#running.server.url;
  }

  /** The store, the configuration and the log of the server. */
  get folder(): string {
    return this.#home.path;
  }

  /** A connection that is closed with the server. */
  async connect(name = "test"): Promise<Connection> {
    const connection = await connect(this.url, name);
    const back = new Arrivals<string>(`reconnection of ${name}`);
    onReconnect(connection, () => back.push(name));
    this.#connections.push({ connection, back });
    return connection;
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<void> {
    process.kill(this.#running.pid, "SIGKILL");
    await this.#running.server.ended;
  }

  /** Starts again what was killed, and waits until every connection is back: what is asked before that is lost. */
  async restart(): Promise<void> {
    this.#running = await startIn(this.#home, this.#binary, this.#running.server.port);
    const open = this.#connections.filter(({ connection }) => !connection.isClosed());
    await Promise.all(open.map(({ back }) => back.next()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map(({ connection }) => connection.close()));
    await this.#running.server.stop();
    await this.#home[Symbol.asyncDispose]();
  }
}

export async function testServer(): Promise<TestServer> {
  const [home, binary] = await Promise.all([temporaryFolder(), serverBinary()]);
  return new TestServer(home, binary, await startIn(home, binary));
}

async function startIn(home: TemporaryFolder, binary: string, port?: number): Promise<Running> {
  let pid = 0;
  const server = await startEmbeddedServer({
    binary,
    folder: home.path,
    ...(port === undefined ? {} : { port }),
    onStart: (started) => (pid = started),
  });
  return { server, pid };
}
