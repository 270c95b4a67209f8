/** Logs of jobs: chunks of lines on a stream, written by agents, replayed and followed by whoever asks. */
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import type { AgentId, ChainId, JobName } from "#protocol/ids.ts";
import { logBytesMax, logChunkBytes, logChunkMs } from "#protocol/limits.ts";
import { Progress } from "#protocol/messages.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { jobOfLog, logSubject, logSubjectsOf, progressSubject, progressSubjects, streams } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { listen } from "#bus/rpc.ts";
import { readStream } from "#bus/stream-reader.ts";

/** For one chunk; the end of a job waits for its last ones. */
const publishTimeoutMs = 5_000;

/** Gathers lines into chunks. A chunk that cannot be stored is lost: a log never holds up a job. */
export class JobLogWriter {
  readonly #connection: Connection;
  readonly #subject: string;
  #pending: string[] = [];
  #pendingBytes = 0;
  #writtenBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<unknown> = Promise.resolve();

  constructor(connection: Connection, agent: AgentId, chain: ChainId, job: JobName) {
    this.#connection = connection;
    this.#subject = logSubject(agent, chain, job);
  }

  line(text: string): void {
    if (this.#writtenBytes >= logBytesMax) return;
    const bytes = Buffer.byteLength(text) + 1;
    this.#writtenBytes += bytes;
    if (this.#writtenBytes >= logBytesMax)
      this.#pending.push(text, `[the log ends here: ${logBytesMax} bytes are its limit]`);
    else this.#pending.push(text);
    this.#pendingBytes += bytes;
    if (this.#pendingBytes >= logChunkBytes) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), logChunkMs);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#pending.length === 0) return;
    const bytes = new TextEncoder().encode(this.#pending.join("\n"));
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#sending = Promise.all([
      this.#sending,
      jetstream(this.#connection)
        .publish(this.#subject, bytes, { timeout: publishTimeoutMs })
        .catch(() => undefined),
    ]);
  }

  /** Sends what is left and waits for the store's answers. */
  async close(): Promise<void> {
    this.#flush();
    await this.#sending;
  }
}

export function publishProgress(
  connection: Connection,
  agent: AgentId,
  chain: ChainId,
  job: JobName,
  progress: Progress,
): void {
  if (!connection.isClosed()) connection.publish(progressSubject(agent, chain, job), encode(progress));
}

/** Progress of all jobs: `call` gets the chain's id and job's name as they stand in the subject. */
export function listenProgress(
  connection: Connection,
  call: (chain: string, job: string, progress: Progress) => void,
): { stop(): void } {
  return listen(connection, progressSubjects, (bytes, subject) => {
    const [, , , chain, job] = subject.split(".");
    const decoded = decode(Progress, bytes);
    if (decoded.ok && chain !== undefined && job !== undefined) call(chain, job, decoded.value);
  });
}

/** Takes the logs of all jobs of some chains away. @throws UnavailableError */
export async function removeLogs(connection: Connection, chains: readonly ChainId[]): Promise<void> {
  if (chains.length === 0) return;
  try {
    const manager = await jetstreamManager(connection, { checkAPI: false });
    for (const filter of chains.flatMap((chain) => logSubjectsOf(chain)))
      await manager.streams.purge(streams.logs, { filter });
  } catch (error) {
    throw translate(error, `remove the logs of ${chains.length} chains`);
  }
}

/** The lines of a job's log, oldest first; with `follow` also those to come, until its signal. @throws UnavailableError */
export async function* readJobLog(
  connection: Connection,
  chain: ChainId,
  jobs: readonly JobName[],
  follow?: AbortSignal,
): AsyncGenerator<{ readonly job: JobName; readonly line: string }> {
  const subjects = jobs.flatMap((job) => logSubjectsOf(chain, job));
  const text = new TextDecoder();
  try {
    const options = { subjects, ...(follow === undefined ? {} : { follow }) };
    for await (const message of readStream(connection, streams.logs, options)) {
      const job = jobOfLog(message.subject);
      if (job === undefined) continue;
      for (const line of text.decode(message.data).split("\n")) yield { job, line };
    }
  } catch (error) {
    throw translate(error, `read the log of ${chain}`);
  }
}
