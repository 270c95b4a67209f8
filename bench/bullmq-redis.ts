/**
 * BullMQ on Redis, the general job queue that a Node project would take first, with the settings that suit it best: workers that
 * block on Redis instead of polling, one worker a lane with `slots` jobs at a time (as its manual advises; a worker a slot was
 * not faster), finished jobs removed, no snapshots and no rewriting of the log beside the fsyncs that are compared.
 *
 * There are two honest ways to chain two jobs, and each wins somewhere, so both take part:
 * `flow`: the FlowProducer stores both jobs at once, and Redis releases the parent (upload) when its child (compile) is done;
 * `handler`: the compile handler adds the upload job and then ends. Fewer writes, but a worker that dies in between adds it twice.
 */
import { createRequire } from "node:module";
import { type FlowJob, FlowProducer, Queue, Worker } from "bullmq";
import { z } from "zod";
import { type ChildServer, startChildServer } from "#actor/child-server.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import type { ChainMarks, Contender, Durability, Lanes } from "#bench/contender.ts";

export type Chaining = "flow" | "handler";

/** Jobs of one `addBulk`; Redis and BullMQ take turns on the chunks instead of waiting for one large transaction. */
const chunkSize = 100;

interface Job {
  readonly chain: number;
}

/** What both ways of chaining have in common of a run. */
interface RunOptions {
  readonly names: { readonly compile: string; readonly upload: string };
  readonly connection: { readonly host: string; readonly port: number };
  readonly slots: number;
  readonly marks: ChainMarks;
}

const removed = { removeOnComplete: true };

export class BullmqRedis implements Contender {
  readonly name: string;
  readonly family = "BullMQ";
  readonly #chaining: Chaining;
  #server: ChildServer | undefined;
  #runs = 0;

  constructor(chaining: Chaining) {
    this.#chaining = chaining;
    this.name = `BullMQ, ${chaining}`;
  }

  async start(durability: Durability, workFolder: string): Promise<string> {
    const redis = await redisVersion();
    const fsync = { always: "always", "1s": "everysec" }[durability];
    const isolated = ["--bind", "127.0.0.1", "--dir", workFolder, "--save", ""];
    const appended = ["--appendonly", "yes", "--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0"];
    this.#server = await startChildServer({
      name: "redis-server",
      argvFor: (port) => ["redis-server", "--port", String(port), ...isolated, ...appended],
    });
    return `BullMQ ${bullmqVersion()} on redis-server ${redis}`;
  }

  async open(slots: number, marks: ChainMarks): Promise<Lanes> {
    this.#runs += 1;
    const run: RunOptions = {
      names: { compile: `compile-${this.#runs}`, upload: `upload-${this.#runs}` },
      connection: { host: "127.0.0.1", port: this.#server?.port ?? 0 },
      slots,
      marks,
    };
    try {
      switch (this.#chaining) {
        case "flow":
          return await openFlow(run);
        case "handler":
          return await openHandler(run);
      }
    } catch (cause) {
      throw new UnavailableError("bullmq", `BullMQ does not start: ${messageOf(cause)}`, { cause });
    }
  }

  async stop(): Promise<void> {
    await this.#server?.stop();
    this.#server = undefined;
  }
}

async function openFlow(run: RunOptions): Promise<Lanes> {
  const { names, connection, marks } = run;
  const producer = new FlowProducer({ connection });
  const flowOf = (chain: number): FlowJob => ({
    name: "upload",
    queueName: names.upload,
    data: { chain },
    opts: removed,
    children: [{ name: "compile", queueName: names.compile, data: { chain }, opts: removed }],
  });
  const workers = await startWorkers(run, async ({ chain }) => {
    marks.compileStarted(chain);
    marks.compileDone(chain);
  });
  await producer.waitUntilReady();
  return {
    async request(chains) {
      const [only, ...more] = chains;
      if (only !== undefined && more.length === 0) await producer.add(flowOf(only));
      else for (const chunk of chunksOf(chains)) await producer.addBulk(chunk.map(flowOf));
    },
    async close() {
      await workers.close();
      await producer.close();
    },
  };
}

async function openHandler(run: RunOptions): Promise<Lanes> {
  const { names, connection, marks } = run;
  const compileQueue = new Queue<Job>(names.compile, { connection });
  const uploadQueue = new Queue<Job>(names.upload, { connection });
  const workers = await startWorkers(run, async ({ chain }) => {
    marks.compileStarted(chain);
    marks.compileDone(chain);
    await uploadQueue.add("upload", { chain }, removed);
  });
  await Promise.all([compileQueue.waitUntilReady(), uploadQueue.waitUntilReady()]);
  return {
    async request(chains) {
      const [only, ...more] = chains;
      if (only !== undefined && more.length === 0) await compileQueue.add("compile", { chain: only }, removed);
      else {
        for (const chunk of chunksOf(chains)) {
          await compileQueue.addBulk(chunk.map((chain) => ({ name: "compile", data: { chain }, opts: removed })));
        }
      }
    },
    async close() {
      await workers.close();
      await Promise.all([compileQueue.close(), uploadQueue.close()]);
    },
  };
}

/** Both lanes; the upload handler is the same however the job came about. */
async function startWorkers(
  { names, connection, slots, marks }: RunOptions,
  compile: (job: Job) => Promise<void>,
): Promise<{ close(): Promise<void> }> {
  const options = { connection, concurrency: slots };
  const compiler = new Worker<Job, void>(names.compile, (job) => compile(job.data), options);
  const uploader = new Worker<Job, void>(names.upload, async (job) => marks.uploadStarted(job.data.chain), options);
  uploader.on("completed", (job) => marks.chainFinished(job.data.chain));
  const workers = [compiler, uploader];
  // Without a listener an error event ends the process; the run's own time limit notices whatever matters.
  for (const worker of workers) worker.on("error", () => undefined);
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  return {
    async close() {
      await Promise.all(workers.map((worker) => worker.close()));
    },
  };
}

function* chunksOf(chains: readonly number[]): Iterable<readonly number[]> {
  for (let at = 0; at < chains.length; at += chunkSize) yield chains.slice(at, at + chunkSize);
}

/** @throws UsageError when redis-server is not in PATH. */
async function redisVersion(): Promise<string> {
  let version: string | undefined;
  const { end } = await runProcess({
    argv: ["redis-server", "--version"],
    env: plainEnvironment(),
    totalMs: 10_000,
    onLine: (line) => (version ??= /\bv=(\S+)/.exec(line)?.[1]),
  });
  if (end.kind === "exited" && version !== undefined) return version;
  throw new UsageError(
    "redis-server-missing",
    "the benchmark compares with BullMQ and needs redis-server in PATH: apt-get install redis-server (Debian, Ubuntu), brew install redis (macOS)",
  );
}

function bullmqVersion(): string {
  const manifest: unknown = createRequire(import.meta.url)("bullmq/package.json");
  return z.object({ version: z.string() }).parse(manifest).version;
}
