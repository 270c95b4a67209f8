/**
 * The floor under everything that is built on JetStream: two subjects of one work queue, publish, deliver, acknowledge, and
 * nothing that knows what a chain is. The compile worker publishes the upload job, waits until it is stored, then acknowledges
 * its own. There is no record to look at, nothing can be cancelled, and a worker that dies makes its job run twice.
 */
import {
  AckPolicy,
  type ConsumerMessages,
  type JsMsg,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
} from "@nats-io/jetstream";
import { type Connection, connect } from "#bus/connection.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import type { ServerBinary } from "#bus/server-binary.ts";
import type { ChainMarks, Contender, Durability, Lanes } from "#bench/contender.ts";

/** Requests in flight wait for each other's fsync; a thousand of them take about a second. */
const publishTimeoutMs = 30_000;

export class RawJetStream implements Contender {
  readonly name = "raw JetStream";
  readonly family = "raw JetStream";
  readonly #binary: () => Promise<ServerBinary>;
  #server: EmbeddedServer | undefined;
  #runs = 0;

  constructor(binary: () => Promise<ServerBinary>) {
    this.#binary = binary;
  }

  async start(durability: Durability, workFolder: string): Promise<string> {
    const { path, version } = await this.#binary();
    this.#server = await startEmbeddedServer({ binary: path, folder: workFolder, syncInterval: durability });
    return `nats-server ${version}`;
  }

  async open(slots: number, marks: ChainMarks): Promise<Lanes> {
    const url = this.#server?.url ?? "";
    this.#runs += 1;
    const stream = `RUN_${this.#runs}`;
    const subject = { compile: `${stream}.compile`, upload: `${stream}.upload` } as const;
    // One each, as the farm's own processes have: a requester does not share the socket of an agent.
    const requester = await connect(url, "requester");
    const compiler = await connect(url, "compile-workers");
    const uploader = await connect(url, "upload-workers");
    const manager = await jetstreamManager(requester);
    await manager.streams.add({
      name: stream,
      subjects: Object.values(subject),
      retention: RetentionPolicy.Workqueue,
    });
    const publish = (connection: Connection, to: string, body: Uint8Array | string) =>
      jetstream(connection).publish(to, body, { timeout: publishTimeoutMs });

    const working = [
      await startWorkers(compiler, { stream, subject: subject.compile, slots }, async (message) => {
        const chain = Number(message.string());
        marks.compileStarted(chain);
        marks.compileDone(chain);
        await publish(compiler, subject.upload, message.data);
        message.ack();
      }),
      await startWorkers(uploader, { stream, subject: subject.upload, slots }, async (message) => {
        const chain = Number(message.string());
        marks.uploadStarted(chain);
        message.ack();
        marks.chainFinished(chain);
      }),
    ];
    return {
      async request(chains) {
        await Promise.all(chains.map((chain) => publish(requester, subject.compile, String(chain))));
      },
      async close() {
        for (const workers of working) await workers.stop();
        await manager.streams.delete(stream);
        for (const connection of [requester, compiler, uploader]) await connection.close();
      },
    };
  }

  async stop(): Promise<void> {
    await this.#server?.stop();
    this.#server = undefined;
  }
}

interface LaneOptions {
  readonly stream: string;
  readonly subject: string;
  readonly slots: number;
}

/**
 * One pull a slot on one durable consumer. `max_ack_pending` makes it one job in each hand, whatever the pulls have asked for:
 * the server pushes the next one as soon as an acknowledgement arrives.
 */
async function startWorkers(
  connection: Connection,
  { stream, subject, slots }: LaneOptions,
  handle: (message: JsMsg) => Promise<void>,
): Promise<{ stop(): Promise<void> }> {
  const durable = subject.replace(".", "_");
  const manager = await jetstreamManager(connection);
  await manager.consumers.add(stream, {
    durable_name: durable,
    filter_subject: subject,
    ack_policy: AckPolicy.Explicit,
    max_ack_pending: slots,
  });
  const pulls: ConsumerMessages[] = [];
  const loops: Promise<void>[] = [];
  for (let slot = 0; slot < slots; slot += 1) {
    const consumer = await jetstream(connection).consumers.get(stream, durable);
    const messages = await consumer.consume({ max_messages: 100 });
    pulls.push(messages);
    loops.push(
      (async () => {
        for await (const message of messages) await handle(message);
      })(),
    );
  }
  return {
    async stop() {
      for (const messages of pulls) messages.stop();
      await Promise.all(loops);
    },
  };
}
